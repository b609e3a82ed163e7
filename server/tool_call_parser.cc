#include "server/tool_call_parser.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "config/limits.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

// The string that this JSON text is; empty: it is none.
std::string Unquoted(const std::string& quoted) {
  const absl::StatusOr<Json> parsed = ParseJson(quoted);
  if (!parsed.ok()) return {};
  const auto* text = parsed->get_ptr<const std::string*>();
  return text == nullptr ? std::string() : *text;
}

}  // namespace

struct ToolCallParser::Output {
  std::string& text;
  std::vector<ToolCallDelta>& calls;
};

void AppendToolCall(ToolCallDelta delta, std::vector<ToolCallDelta>& deltas) {
  if (deltas.empty() || deltas.back().index != delta.index) {
    deltas.push_back(std::move(delta));
  } else {
    deltas.back().arguments += delta.arguments;
  }
}

ToolCallParser::ToolCallParser(const ToolCallSyntax& syntax, ToolCallRules rules)
    : syntax_(syntax), rules_(std::move(rules)), opening_(syntax.open) {}

bool ToolCallParser::CanBeCalled(const std::string& name) const {
  if (name.empty() || name.size() > kToolNameBytesMax) return false;
  return rules_.names.empty() ||
         std::find(rules_.names.begin(), rules_.names.end(), name) != rules_.names.end();
}

void ToolCallParser::Append(std::string_view next, std::string& text,
                            std::vector<ToolCallDelta>& calls) {
  Output out{.text = text, .calls = calls};
  for (const char c : next) Read(c, out);
}

void ToolCallParser::Finish(std::string& text) {
  waiting_ += opening_.Take();
  const bool is_space = WithoutLeadingSpace(waiting_).empty();
  if (!is_space || num_calls_ == 0) text += waiting_;
  waiting_.clear();
}

void ToolCallParser::Read(char c, Output& out) {
  // Until the call is open all of it may yet be text.
  if (state_ != State::kText && !call_is_open()) waiting_ += c;
  switch (state_) {
    case State::kText:
      return ReadText(c, out);
    case State::kBefore:
      return ReadBefore(c, out);
    case State::kShaped:
      return ReadShaped(c, out);
    case State::kName:
      return ReadName(c, out);
    case State::kObject:
      return ReadObject(c, out);
    case State::kKey:
      return ReadKey(c, out);
    case State::kNameValue:
    case State::kArguments:
    case State::kOtherValue:
      return ReadValue(c, out);
    case State::kAfter:
      return ReadAfter(c, out);
    case State::kClosing:
      return ReadClosing(out);
  }
}

void ToolCallParser::ReadText(char c, Output& out) {
  if (syntax_.open.empty()) return ReadStart(c, out);
  if (rules_.only_at_start && !at_start_ && num_calls_ == 0) {
    out.text += opening_.Take() + c;
    return;
  }
  std::string passed;
  if (opening_.Read(c, passed)) {
    waiting_ = opening_.Take();
    state_ = State::kBefore;
  }
  at_start_ = at_start_ && passed.empty();
  out.text += passed;
}

// A call without an opening is one at the start alone. `waiting_`: white space.
void ToolCallParser::ReadStart(char c, Output& out) {
  waiting_ += c;
  if (at_start_ && IsJsonSpace(c)) return;
  const char opening = syntax_.shape == ToolCallShape::kPython ? '[' : '{';
  if (at_start_ && c == opening) return ReadBefore(c, out);
  at_start_ = false;
  out.text += std::exchange(waiting_, {});
}

void ToolCallParser::ReadBefore(char c, Output& out) {
  if (IsJsonSpace(c)) return;
  if (c == '[' && !in_list_) {
    in_list_ = true;
    state_ = State::kBefore;
  } else if (syntax_.shape != ToolCallShape::kObject) {
    BeginCall();
    reader_ = MakeCallReader(syntax_, rules_.texts);
    state_ = State::kShaped;
    ReadShaped(c, out);
  } else if (c == '{') {
    BeginCall();
    state_ = State::kObject;
  } else if (!syntax_.arguments_mark.empty() && !in_list_) {
    BeginCall();
    string_ = c;
    state_ = State::kName;
  } else {
    Break(c, out);
  }
}

void ToolCallParser::ReadShaped(char c, Output& out) {
  std::string arguments;
  const CallReader::Step step = reader_->Read(c, arguments);
  if (step == CallReader::Step::kName) {
    if (!CanBeCalled(reader_->name())) return Break(c, out);
    has_arguments_ = true;
    OpenCall(reader_->name(), out);
  }
  if (!arguments.empty()) AddArguments(arguments, out);
  if (step == CallReader::Step::kEnd) EndCall(c, out);
  if (step == CallReader::Step::kBroken) Break(reader_->unread(), out);
}

void ToolCallParser::ReadName(char c, Output& out) {
  string_ += c;
  const bool has_mark = string_.ends_with(syntax_.arguments_mark);
  if (has_mark || c == '{') {
    const size_t behind = has_mark ? syntax_.arguments_mark.size() : 1;
    string_.resize(string_.size() - behind);
    if (!CanBeCalled(string_)) return Break(c, out);
    OpenCall(std::exchange(string_, {}), out);
    state_ = State::kArguments;
    if (!has_mark) ReadValue(c, out);
  } else if (IsJsonSpace(c) || string_.size() > kToolNameBytesMax + syntax_.arguments_mark.size()) {
    Break(c, out);
  }
}

void ToolCallParser::ReadObject(char c, Output& out) {
  if (IsJsonSpace(c)) return;
  if (c == '"' && expects_key_) {
    string_ = c;
    state_ = State::kKey;
  } else if (c == ':' && !expects_key_ && !key_.empty()) {
    in_string_ = escaped_ = false;
    depth_ = 0;
    string_.clear();
    if (key_ == "name" && name_.empty() && !call_is_open()) {
      state_ = State::kNameValue;
    } else if ((key_ == "arguments" || key_ == "parameters") && !has_arguments_) {
      has_arguments_ = true;
      state_ = State::kArguments;
      if (!name_.empty()) OpenCall(std::exchange(name_, {}), out);
    } else {
      state_ = State::kOtherValue;
    }
    key_.clear();
  } else if (c == ',' && !expects_key_ && key_.empty()) {
    expects_key_ = true;
  } else if (c == '}' && key_.empty()) {
    EndCall(c, out);
  } else {
    Break(c, out);
  }
}

void ToolCallParser::ReadKey(char c, Output& out) {
  string_ += c;
  if (escaped_) {
    escaped_ = false;
  } else if (c == '\\') {
    escaped_ = true;
  } else if (c == '"') {
    key_ = Unquoted(string_);
    expects_key_ = false;
    state_ = State::kObject;
    if (key_.empty()) Break(c, out);
  }
}

// One JSON value, by its brackets and quotes.
void ToolCallParser::ReadValue(char c, Output& out) {
  const bool begins = string_.empty() && !in_string_ && depth_ == 0;
  if (begins && IsJsonSpace(c)) return;
  if (state_ == State::kNameValue && begins && c != '"') return Break(c, out);
  const bool is_word = !begins && !in_string_ && depth_ == 0;  // a number, true, false, null
  if (is_word && (IsJsonSpace(c) || c == ',' || c == '}')) {
    state_ = State::kObject;
    return syntax_.arguments_mark.empty() ? ReadObject(c, out) : Break(c, out);
  }
  if (state_ == State::kArguments) {
    AddArguments({&c, 1}, out);
    string_ = c;  // has begun
  } else {
    string_ += c;
  }
  bool ends = false;
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
      ends = depth_ == 0;
    }
  } else if (c == '"') {
    in_string_ = true;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if (c == '}' || c == ']') {
    ends = --depth_ <= 0;
  }
  if (!ends) return;
  const State was = std::exchange(state_, State::kObject);
  const std::string value = std::exchange(string_, {});
  if (was == State::kNameValue) {
    name_ = Unquoted(value);
    if (!CanBeCalled(name_)) return Break(c, out);
    // Without an opening, an object that has a name alone is any answer.
    if (!syntax_.open.empty() || has_arguments_) OpenCall(std::exchange(name_, {}), out);
  } else if (was == State::kArguments && !syntax_.arguments_mark.empty() && !in_list_) {
    EndCall(c, out);
  }
}

void ToolCallParser::ReadAfter(char c, Output& out) {
  if (IsJsonSpace(c)) return;
  if (in_list_) {
    if (c == ',') {
      state_ = State::kBefore;
    } else if (c == ']') {
      waiting_.clear();
      in_list_ = false;
      if (syntax_.close.empty()) state_ = State::kText;  // else white space, then the closing
    } else {
      ResumeText(out);
    }
  } else if (syntax_.open.empty() && (c == ';' || c == ',')) {
    state_ = State::kBefore;
  } else if (!syntax_.close.empty()) {
    state_ = State::kClosing;
    ReadClosing(out);
  } else {
    ResumeText(out);  // which may open the next call
  }
}

void ToolCallParser::ReadClosing(Output& out) {
  const std::string_view mark = WithoutLeadingSpace(waiting_);
  if (mark == syntax_.close) {
    waiting_.clear();
    state_ = State::kText;
  } else if (!syntax_.close.starts_with(mark)) {
    ResumeText(out);
  }
}

void ToolCallParser::BeginCall() {
  expects_key_ = true;
  key_.clear();
  string_.clear();
  name_.clear();
  arguments_.clear();
  has_arguments_ = in_string_ = escaped_ = false;
  depth_ = 0;
}

void ToolCallParser::OpenCall(std::string name, Output& out) {
  waiting_.clear();
  call_index_ = num_calls_++;
  ToolCallDelta delta{.index = *call_index_, .name = std::move(name)};
  delta.arguments = std::exchange(arguments_, {});
  AppendToolCall(std::move(delta), out.calls);
}

void ToolCallParser::AddArguments(std::string_view piece, Output& out) {
  if (call_is_open()) {
    AppendToolCall({.index = *call_index_, .arguments = std::string(piece)}, out.calls);
  } else {
    arguments_ += piece;
  }
}

void ToolCallParser::EndCall(char c, Output& out) {
  if (!call_is_open()) return Break(c, out);
  if (!has_arguments_ && syntax_.arguments_mark.empty()) AddArguments("{}", out);
  call_index_.reset();
  waiting_.clear();
  state_ = State::kAfter;
}

void ToolCallParser::Break(std::string_view rest, Output& out) {
  const bool was_open = call_is_open();
  call_index_.reset();
  at_start_ = false;
  if (was_open) {
    waiting_ = rest;
    return ResumeText(out);
  }
  in_list_ = false;
  state_ = State::kText;
  out.text += std::exchange(waiting_, {});
}

void ToolCallParser::ResumeText(Output& out) {
  in_list_ = false;
  state_ = State::kText;
  for (const char c : std::exchange(waiting_, {})) Read(c, out);
}

}  // namespace holdfast
