// Takes the calls of tools out of an answer's text as it comes: what is no call stays text, a call
// becomes its name and then its arguments piece by piece, as they are written.
//
//   text ──open──► before a call ──► {"name": "f", "arguments": {...}} ──► close ──► text
//                        ├──────────► f[ARGS]{...} ───────────────────────┤
//                        └──────────► of another shape (call_reader.h) ───┘
//
// What comes out does not depend on how the text is cut. Text waits while it may be the beginning
// of a call, and until the call's name is known; if it turns out to be none, it is text. White
// space before a call is dropped. Once a call has its name it stays one, whatever follows. Read
// with more leniency than calls are written with (tool_choice.h): a list where single calls are
// usual, "arguments" for "parameters".
//
// Thread: one.    Bound: what waits, by the answer's length.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/bare_text.h"
#include "server/call_reader.h"
#include "server/mark_finder.h"
#include "server/tool_call_format.h"

namespace holdfast {

// A piece of a call. The first of each has its name, and its id once one was given.
struct ToolCallDelta {
  int32_t index = 0;  // of the answer's calls
  std::string id;
  std::string name;
  std::string arguments;  // JSON, in pieces
};

// To the end of `deltas`; pieces of one call are joined.
void AppendToolCall(ToolCallDelta delta, std::vector<ToolCallDelta>& deltas);

struct ToolCallRules {
  std::vector<std::string> names;  // that can be called; empty: any
  bool only_at_start = false;      // an answer that does not begin as a call has none
  // Where the syntax writes some parameters bare; null: none. Shared with those who read a call.
  std::shared_ptr<const BareTextsOfTools> texts;
};

class ToolCallParser final {
 public:
  // `syntax` must outlive this.
  explicit ToolCallParser(const ToolCallSyntax& syntax, ToolCallRules rules = {});

  // Appends what is text to `text` and pieces of calls to `calls`.
  void Append(std::string_view next, std::string& text, std::vector<ToolCallDelta>& calls);
  // The answer is over: what waits is text, but for white space behind calls.
  void Finish(std::string& text);

  int32_t num_calls() const { return num_calls_; }  // that have their names
  bool in_arguments() const { return call_is_open(); }
  // Behind an opening, before it is known whether it is one of a call.
  bool in_opening() const { return state_ != State::kText && !call_is_open(); }

 private:
  enum class State : uint8_t {
    kText,
    kBefore,     // behind the opening
    kShaped,     // a call of another shape
    kName,       // of a call that is its name, a mark and arguments
    kObject,     // of a call, outside of its values
    kKey,        // a string at the place of a key
    kNameValue,  // a string
    kArguments,
    kOtherValue,
    kAfter,  // a call, before the next one or the closing
    kClosing,
  };

  struct Output;  // what one Append writes to

  void Read(char c, Output& out);
  void ReadText(char c, Output& out);
  void ReadStart(char c, Output& out);
  void ReadBefore(char c, Output& out);
  void ReadShaped(char c, Output& out);
  void ReadName(char c, Output& out);
  void ReadObject(char c, Output& out);
  void ReadKey(char c, Output& out);
  void ReadValue(char c, Output& out);
  void ReadAfter(char c, Output& out);
  void ReadClosing(Output& out);

  void BeginCall();
  void OpenCall(std::string name, Output& out);
  void AddArguments(std::string_view piece, Output& out);
  void EndCall(char c, Output& out);
  // At `rest` it is no call after all: what waits is text. Or none any more: `rest` is.
  void Break(std::string_view rest, Output& out);
  void Break(char c, Output& out) { Break({&c, 1}, out); }
  // What waits is read again, as text that may open a call.
  void ResumeText(Output& out);
  bool call_is_open() const { return call_index_.has_value(); }
  bool CanBeCalled(const std::string& name) const;

  const ToolCallSyntax& syntax_;
  const ToolCallRules rules_;
  State state_ = State::kText;
  bool at_start_ = true;        // nothing but white space has come
  bool in_list_ = false;        // of calls
  MarkFinder opening_;          // in text, where the syntax has one
  std::string waiting_;         // not yet text nor part of an open call
  std::string string_;          // being read: a key, a name, with its quotes
  bool in_string_ = false;      // within a value
  bool escaped_ = false;        // behind a backslash
  int64_t depth_ = 0;           // of brackets within a value
  bool expects_key_ = false;    // in an object: behind { or ,
  std::string key_;             // that the value belongs to
  std::string name_;            // of a call that may yet be none
  std::string arguments_;       // that came before the name
  bool has_arguments_ = false;  // of the call being read
  std::unique_ptr<CallReader> reader_;
  std::optional<int32_t> call_index_;
  int32_t num_calls_ = 0;
};

}  // namespace holdfast
