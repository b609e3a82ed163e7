#include "server/tool_names.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "config/limits.h"

namespace holdfast {
namespace {

bool IsSpace(char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); }

std::string_view Stripped(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

bool IsNameByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.' ||
         c == ':' || c == '/';
}

void AppendBounded(char c, std::string& text) {
  if (text.size() < kToolNameBytesMax) text.push_back(c);
}

// Sees a marker go by. No marker begins anew within itself.
class Marker final {
 public:
  explicit Marker(std::string_view text) : text_(text) {}
  bool Read(char c) {  // true: that was its last byte
    if (c != text_[matched_]) matched_ = 0;
    if (c == text_[matched_]) ++matched_;
    if (matched_ < text_.size()) return false;
    matched_ = 0;
    return true;
  }

 private:
  const std::string_view text_;
  size_t matched_ = 0;
};

// The calls of one JSON value, an object or an array of them, byte by byte. Is no check of JSON:
// what is none ends it, or has no calls.
class JsonCalls final {
 public:
  // kNever: an object with a name alone is a call. kAlways: one without arguments is none.
  enum class Arguments : uint8_t { kNever, kAlways };
  explicit JsonCalls(Arguments needed) : needed_(needed) {}

  bool over() const { return over_; }
  // The name of the call that ends here; empty: none does.
  std::string Read(char c) {
    if (over_) return {};
    if (in_string_) {
      ReadString(c);
      return {};
    }
    if (IsSpace(c)) return {};
    switch (c) {
      case '"':
        over_ = depth_ == 0;
        in_string_ = true;
        string_.clear();
        return {};
      case '{':
      case '[':
        Open(c);
        return {};
      case '}':
      case ']':
        return Close();
      case ':':
        if (AtCall() && expected_ == Expected::kColon) expected_ = Expected::kValue;
        return {};
      case ',':
        if (AtCall()) expected_ = Expected::kKey;
        return {};
      default:
        over_ = depth_ == 0;
        OnValue();
        return {};
    }
  }

 private:
  enum class Expected : uint8_t { kKey, kColon, kValue, kComma };

  bool AtCall() const { return in_call_ && depth_ == call_depth_; }
  void ReadString(char c) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
      return;
    } else if (c == '"') {
      in_string_ = false;
      if (!AtCall()) return;
      if (expected_ == Expected::kKey) {
        key_ = string_;
        expected_ = Expected::kColon;
      } else {
        if (expected_ == Expected::kValue && key_ == "name") name_ = string_;
        OnValue();
      }
      return;
    }
    if (AtCall()) AppendBounded(c, string_);
  }
  void OnValue() {
    if (!AtCall() || expected_ != Expected::kValue) return;
    has_arguments_ |= key_ == "arguments" || key_ == "parameters";
    expected_ = Expected::kComma;
  }
  void Open(char c) {
    OnValue();
    if (depth_++ == 0) call_depth_ = c == '[' ? 2 : 1;
    if (depth_ != call_depth_) return;
    in_call_ = c == '{';
    expected_ = Expected::kKey;
    name_.clear();
    has_arguments_ = false;
  }
  std::string Close() {
    const bool ends_call = AtCall();
    if (ends_call) in_call_ = false;
    over_ = depth_ <= 1;
    --depth_;
    const bool whole = has_arguments_ || needed_ == Arguments::kNever;
    return ends_call && whole ? name_ : std::string();
  }

  const Arguments needed_;
  bool over_ = false, in_string_ = false, escaped_ = false, in_call_ = false;
  int64_t depth_ = 0, call_depth_ = 1;
  Expected expected_ = Expected::kKey;  // within a call's object
  std::string string_, key_, name_;     // string_: being read
  bool has_arguments_ = false;
};

class HermesReader final : public ToolCallReader {
 public:
  void Read(char next) override {
    if (json_ == nullptr) {
      if (marker_.Read(next)) json_ = std::make_unique<JsonCalls>(JsonCalls::Arguments::kNever);
      return;
    }
    if (const std::string name = json_->Read(next); !name.empty()) Add(name);
    if (json_->over()) json_ = nullptr;
  }

 private:
  Marker marker_{"<tool_call>"};
  std::unique_ptr<JsonCalls> json_;  // of the call that is being read
};

class MistralReader final : public ToolCallReader {
 public:
  void Read(char next) override {
    switch (state_) {
      case State::kText:
        if (!marker_.Read(next)) return;
        state_ = State::kBefore;
        name_.clear();
        return;
      case State::kBefore:
        if (IsSpace(next)) return;
        if (next == '[' || next == '{') {
          json_ = std::make_unique<JsonCalls>(JsonCalls::Arguments::kNever);
          state_ = State::kJson;
          ReadJson(next);
        } else {
          state_ = State::kName;
          ReadName(next);
        }
        return;
      case State::kJson:
        ReadJson(next);
        return;
      case State::kName:
        ReadName(next);
        return;
    }
  }

 private:
  enum class State : uint8_t { kText, kBefore, kJson, kName };
  void ReadJson(char next) {
    if (const std::string name = json_->Read(next); !name.empty()) Add(name);
    if (json_->over()) state_ = State::kText;
  }
  void ReadName(char next) {
    if (IsNameByte(next)) {
      AppendBounded(next, name_);
      return;
    }
    if ((next == '[' || next == '{') && !name_.empty()) Add(name_);
    state_ = State::kText;
    marker_.Read(next);
  }

  State state_ = State::kText;
  Marker marker_{"[TOOL_CALLS]"};
  std::unique_ptr<JsonCalls> json_;
  std::string name_;
};

class Llama3Reader final : public ToolCallReader {
 public:
  void Read(char next) override {
    switch (state_) {
      case State::kBefore:
        Begin(next);
        return;
      case State::kJson:
        if (const std::string name = json_->Read(next); !name.empty()) Add(name);
        if (json_->over()) state_ = State::kBetween;
        return;
      case State::kBetween:
        if (IsSpace(next) || next == ';' || next == ',') return;
        StartJsonOr(next, State::kOther);
        return;
      case State::kTag:
        AppendBounded(next, head_);
        if (head_ == kTag) {
          state_ = State::kTagged;
          head_.clear();
        } else if (!kTag.starts_with(head_)) {
          state_ = State::kOther;
        }
        return;
      case State::kTagged:
        if (IsSpace(next) && head_.empty()) return;
        if (head_.empty() && next == '{') return StartJsonOr(next, State::kOther);
        AppendBounded(next, head_);
        if (head_.ends_with(kCall)) {
          Add(std::string_view(head_).substr(0, head_.size() - kCall.size()));
          state_ = State::kOther;
        } else if (next == '\n' || head_.size() == kToolNameBytesMax) {
          Finish();
        }
        return;
      case State::kOther:
        return;
    }
  }
  void Finish() override {
    if (state_ != State::kTagged || head_.empty()) return;
    Add("python");  // code for the built-in interpreter
    state_ = State::kOther;
  }

 private:
  enum class State : uint8_t { kBefore, kTag, kTagged, kJson, kBetween, kOther };
  static constexpr std::string_view kTag = "<|python_tag|>", kCall = ".call(";

  void Begin(char next) {
    if (IsSpace(next)) return;
    if (next == kTag.front()) {
      state_ = State::kTag;
      head_ = next;
      return;
    }
    StartJsonOr(next, State::kOther);
  }
  void StartJsonOr(char next, State otherwise) {
    state_ = otherwise;
    if (next != '{') return;
    json_ = std::make_unique<JsonCalls>(JsonCalls::Arguments::kAlways);
    json_->Read(next);
    state_ = State::kJson;
  }

  State state_ = State::kBefore;
  std::unique_ptr<JsonCalls> json_;
  std::string head_;  // of what follows the tag
};

class TagsReader final : public ToolCallReader {
 public:
  void Read(char next) override {
    if (in_name_ && next != '>') {
      AppendBounded(next, name_);
    } else if (in_name_) {
      in_name_ = false;
    } else if (begin_.Read(next)) {
      in_name_ = true;
      name_.clear();
    } else if (end_.Read(next)) {
      Add(std::exchange(name_, {}));
    }
  }

 private:
  Marker begin_{"<function="}, end_{"</function>"};
  bool in_name_ = false;
  std::string name_;  // of the call that is being read
};

class PythonReader final : public ToolCallReader {
 public:
  void Read(char next) override {
    switch (state_) {
      case State::kBefore:
        if (!IsSpace(next)) state_ = next == '[' ? State::kName : State::kOther;
        return;
      case State::kName:
        if (IsSpace(next) && name_.empty()) return;
        if (next == '(' && !name_.empty()) {
          state_ = State::kArguments;
          depth_ = 1;
        } else if (IsNameByte(next)) {
          AppendBounded(next, name_);
        } else {
          state_ = State::kOther;
        }
        return;
      case State::kArguments:
        ReadArguments(next);
        return;
      case State::kBetween:
        if (!IsSpace(next)) state_ = next == ',' ? State::kName : State::kOther;
        return;
      case State::kOther:
        return;
    }
  }

 private:
  enum class State : uint8_t { kBefore, kName, kArguments, kBetween, kOther };

  void ReadArguments(char next) {
    if (escaped_) {
      escaped_ = false;
    } else if (quote_ != 0) {
      escaped_ = next == '\\';
      if (next == quote_) quote_ = 0;
    } else if (next == '"' || next == '\'') {
      quote_ = next;
    } else if (next == '(' || next == '[' || next == '{') {
      ++depth_;
    } else if ((next == ')' || next == ']' || next == '}') && --depth_ == 0) {
      Add(std::exchange(name_, {}));
      state_ = State::kBetween;
    }
  }

  State state_ = State::kBefore;
  std::string name_;
  int64_t depth_ = 0;  // of brackets within the call
  char quote_ = 0;     // of the string that is being read
  bool escaped_ = false;
};

class FencedBashReader final : public ToolCallReader {
 public:
  void Read(char next) override {
    if (next == '\n') {
      EndLine();
    } else {
      AppendBounded(next, line_);  // of a longer one the beginning tells
    }
  }
  void Finish() override {
    EndLine();
    if (num_blocks_ == 1) Add(word_);  // of several an agent runs none
  }

 private:
  enum class Block : uint8_t { kNone, kShell, kOther };
  static constexpr std::string_view kFence = "```";

  void EndLine() {
    const std::string line = std::exchange(line_, {});
    const std::string_view text = Stripped(line);
    if (block_ == Block::kNone) {
      if (!text.starts_with(kFence)) return;
      constexpr std::array<std::string_view, 4> kShells = {"bash", "sh", "shell",
                                                           "mswea_bash_command"};
      const std::string_view language = Stripped(text.substr(kFence.size()));
      const bool is_shell = std::find(kShells.begin(), kShells.end(), language) != kShells.end();
      block_ = is_shell ? Block::kShell : Block::kOther;
      block_word_.clear();
    } else if (text == kFence) {
      if (block_ == Block::kShell && !block_word_.empty()) {
        ++num_blocks_;
        word_ = block_word_;
      }
      block_ = Block::kNone;
    } else if (block_ == Block::kShell && block_word_.empty() && !text.starts_with('#')) {
      block_word_ = std::string(text.substr(0, text.find_first_of(" \t;|&<>()")));
    }
  }

  Block block_ = Block::kNone;
  int64_t num_blocks_ = 0;  // of a shell, that are whole
  std::string line_, block_word_, word_;
};

std::unique_ptr<ToolCallReader> MakeReader(ToolCallFormat format) {
  switch (format) {
    case ToolCallFormat::kMistral:
    case ToolCallFormat::kMistralNamed:
      return std::make_unique<MistralReader>();
    case ToolCallFormat::kLlama3:
      return std::make_unique<Llama3Reader>();
    case ToolCallFormat::kTags:
      return std::make_unique<TagsReader>();
    case ToolCallFormat::kPython:
      return std::make_unique<PythonReader>();
    case ToolCallFormat::kUnknown:
    case ToolCallFormat::kHermes:
      break;
  }
  return std::make_unique<HermesReader>();
}

}  // namespace

void ToolCallReader::Add(std::string_view name) {
  if (names_.size() < kToolCallsMax && !name.empty()) {
    names_.emplace_back(name.substr(0, kToolNameBytesMax));
  }
}

ToolNames::ToolNames(ToolCallFormat format) {
  constexpr std::array kInOrder = {ToolCallFormat::kHermes, ToolCallFormat::kMistralNamed,
                                   ToolCallFormat::kLlama3, ToolCallFormat::kTags};
  if (format != ToolCallFormat::kUnknown) readers_.push_back(MakeReader(format));
  for (const ToolCallFormat other : kInOrder) {
    if (other != format) readers_.push_back(MakeReader(other));
  }
  readers_.push_back(std::make_unique<FencedBashReader>());
}

void ToolNames::Append(std::string_view text) {
  for (const auto& reader : readers_) {
    for (const char next : text) reader->Read(next);
  }
}

std::string ToolNames::Finish() {
  for (const auto& reader : readers_) {
    reader->Finish();
    if (reader->names().empty()) continue;
    std::vector<std::string> names = reader->names();
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    std::string joined = absl::StrJoin(names, "+");
    joined.resize(std::min(joined.size(), kToolNameBytesMax));
    return joined;
  }
  return {};
}

}  // namespace holdfast
