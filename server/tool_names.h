// Which tools an answer calls, read from its text as it comes. Only names are taken, so that the
// scheduler can learn how long each tool takes; the text itself is nobody's business here and stays
// as it is.
//
// Calls look as tool_call_format.h has them; or, of Llama 3, stand behind <|python_tag|>, perhaps
// as f.call(...); or are one block  ```bash ... ```  whose first word is the tool (mini-swe-agent).
//
// A call that is cut off is none: nobody will run it. An answer is read in all formats at once, as
// agents also ask for one by their prompts; the model's own counts before the others.
//
// Several calls are one tool for the scheduler, which sees only when the last of them is back:
// their names in order, each once, joined with "+".
//
// Source of the key: Continuum (arXiv 2511.02230).
// Thread: one.    Bound: kToolCallsMax names of kToolNameBytesMax, and as much again for what is
// being read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/tool_call_format.h"

namespace holdfast {

inline constexpr size_t kToolCallsMax = 16;  // of one answer; more are not looked at

// Reads one format.
class ToolCallReader {
 public:
  virtual ~ToolCallReader() = default;
  virtual void Read(char next) = 0;
  virtual void Finish() {}  // the text is over
  const std::vector<std::string>& names() const { return names_; }

 protected:
  void Add(std::string_view name);

 private:
  std::vector<std::string> names_;
};

class ToolNames final {
 public:
  explicit ToolNames(ToolCallFormat format);
  ToolNames(ToolNames&&) = default;

  void Append(std::string_view text);
  // After the last text, once: the name of the tool; empty: none is called.
  std::string Finish();

 private:
  std::vector<std::unique_ptr<ToolCallReader>> readers_;  // the first that found a call counts
};

}  // namespace holdfast
