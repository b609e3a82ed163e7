// Which tools an answer calls, read from its text as it comes. Only names are taken, so that the
// scheduler can learn how long each tool takes; the text itself is nobody's business here and stays
// as it is.
//
// Calls are read as they are for the client (tool_call_parser.h), in several formats at once, as
// agents also ask for one by their prompts; the model's own counts before the others. Besides, what
// stands behind Llama 3's <|python_tag|> is a call, f.call(...) or code for `python`; and so is the
// first word of the one block  ```bash ... ```  of an answer (mini-swe-agent).
//
// A call that is cut off is none: nobody will run it. Several calls are one tool for the scheduler,
// which sees only when the last of them is back: their names in order, each once, joined with "+".
//
// Source of the key: Continuum (arXiv 2511.02230).
// Thread: one.    Bound: kToolCallsMax names of kToolNameBytesMax; what waits in the parsers, by
// the answer's length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/tool_call_format.h"
#include "server/tool_call_parser.h"

namespace holdfast {

inline constexpr size_t kToolCallsMax = 16;  // of one answer; more are not looked at

// The block of shell in an answer.
class ShellBlock final {
 public:
  void Append(std::string_view text);
  // After the last text, once: its first word. Empty: there is none, or several, of which an agent
  // runs none.
  std::string Finish();

 private:
  enum class Block : uint8_t { kNone, kShell, kOther };

  void EndLine();

  Block block_ = Block::kNone;
  int64_t num_whole_ = 0;
  std::string line_, block_word_, word_;
};

class ToolNames final {
 public:
  explicit ToolNames(ToolCallFormat format);
  ToolNames(ToolNames&&) = default;

  void Append(std::string_view text);
  // After the last text, once: the name of the tool; empty: none is called.
  std::string Finish();

 private:
  // Of one format.
  struct Calls {
    ToolCallParser parser;
    std::vector<std::string> names;
  };

  std::vector<Calls> formats_;  // the first that found a call counts
  std::string head_;            // of the answer
  ShellBlock shell_;
};

}  // namespace holdfast
