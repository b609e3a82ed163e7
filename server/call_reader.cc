#include "server/call_reader.h"

#include <cstdio>
#include <utility>

#include "config/limits.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

using Step = CallReader::Step;

constexpr std::string_view kFunctionMark = "<function=", kFunctionEnd = "</function>";
constexpr std::string_view kParameterMark = "<parameter=", kParameterEnd = "</parameter>";

// Within a JSON string.
void AppendEscaped(char c, std::string& json) {
  const auto byte = static_cast<unsigned char>(c);
  if (c == '"' || c == '\\') {
    json += '\\';
    json += c;
  } else if (c == '\n') {
    json += "\\n";
  } else if (byte < 0x20) {
    char escape[8];
    std::snprintf(escape, sizeof escape, "\\u%04x", byte);
    json += escape;
  } else {
    json += c;
  }
}

void AppendEscaped(std::string_view text, std::string& json) {
  for (const char c : text) AppendEscaped(c, json);
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && IsJsonSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsJsonSpace(text.back())) text.remove_suffix(1);
  return text;
}

// The library takes a zero byte for the end of the text.
bool IsJson(std::string_view text) {
  return text.find('\0') == text.npos && Json::accept(text.begin(), text.end());
}

// The JSON of a Python word; empty: it is another.
std::string_view JsonOfWord(std::string_view word) {
  if (word == "True") return "true";
  if (word == "False") return "false";
  if (word == "None") return "null";
  return {};
}

bool IsInKey(char c) {
  return static_cast<unsigned char>(c) >= 0x80 || (c >= 'a' && c <= 'z') ||
         (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' ||
         c == '$';
}

}  // namespace

void CallReader::WriteKey(std::string_view key, std::string& arguments) {
  arguments += std::exchange(has_arguments_, true) ? ", \"" : "{\"";
  AppendEscaped(key, arguments);
  arguments += "\": ";
}

// ---- Between tags ------------------------------------------------------------------------------

Step TaggedCallReader::Read(char c, std::string& arguments) {
  switch (state_) {
    case State::kFunction:
      buffer_ += c;
      if (buffer_ == kFunctionMark) {
        buffer_.clear();
        state_ = State::kName;
        return Step::kMore;
      }
      return kFunctionMark.starts_with(buffer_) ? Step::kMore : Step::kBroken;
    case State::kName:
      if (c == '>') {
        name_ = std::exchange(buffer_, {});
        state_ = State::kBetween;
        return Step::kName;
      }
      buffer_ += c;
      return IsJsonSpace(c) || buffer_.size() > kToolNameBytesMax ? Step::kBroken : Step::kMore;
    case State::kBetween:
      return ReadBetween(c, arguments);
    case State::kKey:
      if (c == '>') {
        BeginValue(arguments);
        return Step::kMore;
      }
      buffer_ += c;
      return c == '\n' ? Step::kBroken : Step::kMore;
    case State::kValue:
      ReadValue(c, arguments);
      return Step::kMore;
  }
  return Step::kBroken;
}

Step TaggedCallReader::ReadBetween(char c, std::string& arguments) {
  if (buffer_.empty() && IsJsonSpace(c)) return Step::kMore;
  buffer_ += c;
  if (buffer_ == kFunctionEnd) {
    WriteEnd(arguments);
    return Step::kEnd;
  }
  if (buffer_ == kParameterMark) {
    buffer_.clear();
    state_ = State::kKey;
    return Step::kMore;
  }
  const bool may_be_mark = kFunctionEnd.starts_with(buffer_) || kParameterMark.starts_with(buffer_);
  return may_be_mark ? Step::kMore : Step::kBroken;
}

const BareText* TaggedCallReader::Bare(const std::string& parameter) const {
  if (texts_ == nullptr) return nullptr;
  const auto tool = texts_->find(name_);
  if (tool == texts_->end()) return nullptr;
  const auto text = tool->second.find(parameter);
  return text == tool->second.end() ? nullptr : &text->second;
}

void TaggedCallReader::BeginValue(std::string& arguments) {
  WriteKey(buffer_, arguments);
  kind_ = Kind::kJson;
  if (const BareText* text = Bare(buffer_); text != nullptr) {
    kind_ = text->may_be_null ? Kind::kTextOrNull : Kind::kText;
  }
  buffer_.clear();
  value_.clear();
  at_begin_ = true;
  quoted_ = false;
  state_ = State::kValue;
}

// `buffer_`: what may be the value's end, a line's end in front of it included.
void TaggedCallReader::ReadValue(char c, std::string& arguments) {
  if (std::exchange(at_begin_, false) && c == '\n') return;
  buffer_ += c;
  while (!buffer_.empty()) {
    const std::string_view mark = std::string_view(buffer_).substr(buffer_.front() == '\n' ? 1 : 0);
    if (mark == kParameterEnd) {
      buffer_.clear();
      return EndValue(arguments);
    }
    if (kParameterEnd.starts_with(mark)) return;
    const char first = buffer_.front();
    buffer_.erase(0, 1);
    AddToValue(first, arguments);
  }
}

void TaggedCallReader::AddToValue(char c, std::string& arguments) {
  if (quoted_) return AppendEscaped(c, arguments);
  value_ += c;
  if (kind_ == Kind::kJson) return;
  if (kind_ == Kind::kTextOrNull && std::string_view("null").starts_with(value_)) return;
  arguments += '"';
  quoted_ = true;
  AppendEscaped(value_, arguments);
}

void TaggedCallReader::EndValue(std::string& arguments) {
  state_ = State::kBetween;
  const std::string_view bare = Trimmed(value_);
  if (quoted_) {
    arguments += '"';
  } else if (kind_ == Kind::kTextOrNull && value_ == "null") {
    arguments += value_;
  } else if (kind_ == Kind::kJson && !JsonOfWord(bare).empty()) {
    arguments += JsonOfWord(bare);
  } else if (kind_ == Kind::kJson && IsJson(bare)) {
    arguments += bare;
  } else {
    arguments += '"';
    AppendEscaped(value_, arguments);
    arguments += '"';
  }
}

// ---- In Python ---------------------------------------------------------------------------------

Step PythonCallReader::Broken(char c) {
  buffer_ += c;
  return Step::kBroken;
}

Step PythonCallReader::Read(char c, std::string& arguments) {
  switch (state_) {
    case State::kName:
      if (c == '(') {
        name_ = std::exchange(buffer_, {});
        state_ = State::kBeforeKey;
        return Step::kName;
      }
      buffer_ += c;
      return IsInKey(c) && buffer_.size() <= kToolNameBytesMax ? Step::kMore : Step::kBroken;
    case State::kBeforeKey:
      if (IsJsonSpace(c)) return Step::kMore;
      if (c == ')') return ReadEnd(c, arguments);
      state_ = State::kKey;
      return ReadKey(c, arguments);
    case State::kKey:
      return ReadKey(c, arguments);
    case State::kValue:
      return ReadValue(c, arguments);
    case State::kString:
      ReadString(c, arguments);
      return Step::kMore;
    case State::kEscape:
      ReadEscape(c, arguments);
      return Step::kMore;
    case State::kAfterValue:
      return IsJsonSpace(c) ? Step::kMore : ReadEnd(c, arguments);
  }
  return Step::kBroken;
}

Step PythonCallReader::ReadKey(char c, std::string& arguments) {
  if (c == '=' && !buffer_.empty()) {
    WriteKey(std::exchange(buffer_, {}), arguments);
    depth_ = 0;
    state_ = State::kValue;
    return Step::kMore;
  }
  if (!IsInKey(c)) return Broken(c);
  buffer_ += c;
  return Step::kMore;
}

// Behind a value: another, or the call's end.
Step PythonCallReader::ReadEnd(char c, std::string& arguments) {
  if (c == ',') {
    state_ = State::kBeforeKey;
    return Step::kMore;
  }
  if (c != ')') return Broken(c);
  WriteEnd(arguments);
  return Step::kEnd;
}

bool PythonCallReader::WriteWord(std::string& arguments) {
  if (buffer_.empty()) return true;
  const std::string_view json = JsonOfWord(buffer_);
  if (json.empty() && !IsJson(buffer_)) return false;
  arguments += json.empty() ? std::string_view(buffer_) : json;
  buffer_.clear();
  return true;
}

// One literal, but for its strings.
Step PythonCallReader::ReadValue(char c, std::string& arguments) {
  const bool in_word = !buffer_.empty();
  if (c == '"' || c == '\'') {
    if (in_word) return Broken(c);
    arguments += '"';
    quote_ = c;
    state_ = State::kString;
    return Step::kMore;
  }
  const bool ends_word =
      IsJsonSpace(c) || std::string_view("()[]{},:").find(c) != std::string_view::npos;
  if (!ends_word) {
    buffer_ += c;
    return Step::kMore;
  }
  if (!WriteWord(arguments)) return Broken(c);
  if (in_word && depth_ == 0) {
    state_ = State::kAfterValue;
    return IsJsonSpace(c) ? Step::kMore : ReadEnd(c, arguments);
  }
  if (IsJsonSpace(c)) {
    if (depth_ > 0) arguments += c;
    return Step::kMore;
  }
  const bool opens = c == '[' || c == '{', closes = c == ']' || c == '}';
  if (!opens && (depth_ == 0 || c == '(' || c == ')')) return Broken(c);
  arguments += c;
  depth_ += opens ? 1 : closes ? -1 : 0;
  if (closes && depth_ == 0) state_ = State::kAfterValue;
  return Step::kMore;
}

void PythonCallReader::ReadString(char c, std::string& arguments) {
  if (c == quote_) {
    arguments += '"';
    state_ = depth_ == 0 ? State::kAfterValue : State::kValue;
  } else if (c == '\\') {
    escape_.clear();
    state_ = State::kEscape;
  } else {
    AppendEscaped(c, arguments);
  }
}

// Those of Python that JSON has not, too; what is no escape of either stays as it is.
void PythonCallReader::ReadEscape(char c, std::string& arguments) {
  static constexpr struct {
    char kind;
    size_t digits;
  } kHex[] = {{'x', 2}, {'u', 4}, {'U', 8}};
  static constexpr std::pair<char, std::string_view> kSimple[] = {
      {'\\', "\\\\"},   {'"', "\\\""},    {'\'', "'"},  {'/', "/"},   {'n', "\\n"},
      {'t', "\\t"},     {'r', "\\r"},     {'b', "\\b"}, {'f', "\\f"}, {'a', "\\u0007"},
      {'v', "\\u000b"}, {'0', "\\u0000"}, {'\n', ""}};
  escape_ += c;
  if (escape_.size() == 1) {
    for (const auto& hex : kHex) {
      if (c == hex.kind) return;  // its digits follow
    }
    state_ = State::kString;
    for (const auto& [kind, json] : kSimple) {
      if (c == kind) {
        arguments += json;
        return;
      }
    }
    return AppendEscaped("\\" + escape_, arguments);
  }
  size_t digits = 0;
  for (const auto& hex : kHex) digits = escape_.front() == hex.kind ? hex.digits : digits;
  const bool is_digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  if (!is_digit) {  // none after all; `c` may end the string
    escape_.pop_back();
    AppendEscaped("\\" + escape_, arguments);
    state_ = State::kString;
    return ReadString(c, arguments);
  }
  if (escape_.size() - 1 < digits) return;
  state_ = State::kString;
  uint32_t character = 0;
  for (const char digit : std::string_view(escape_).substr(1)) {
    character = character * 16 +
                static_cast<uint32_t>(digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
  }
  if (character > 0x10FFFF) character = 0xFFFD;
  char json[16];
  if (character > 0xFFFF) {
    character -= 0x10000;
    std::snprintf(json, sizeof json, "\\u%04x\\u%04x", 0xD800 + (character >> 10),
                  0xDC00 + (character & 0x3FF));
  } else {
    std::snprintf(json, sizeof json, "\\u%04x", character);
  }
  arguments += json;
}

std::unique_ptr<CallReader> MakeCallReader(const ToolCallSyntax& syntax,
                                           std::shared_ptr<const BareTextsOfTools> texts) {
  switch (syntax.shape) {
    case ToolCallShape::kTags:
      return std::make_unique<TaggedCallReader>(std::move(texts));
    case ToolCallShape::kPython:
      return std::make_unique<PythonCallReader>();
    case ToolCallShape::kObject:
      break;
  }
  return nullptr;
}

}  // namespace holdfast
