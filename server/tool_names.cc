#include "server/tool_names.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_join.h"
#include "config/limits.h"

namespace holdfast {
namespace {

constexpr std::string_view kTag = "<|python_tag|>";
constexpr std::string_view kSpaces = " \t\r\n\v\f";
constexpr size_t kHeadBytesMax = 2 * kToolNameBytesMax;

// As Llama 3's, behind its tag.
constexpr ToolCallSyntax kTagged = {.open = kTag, .arguments_key = "parameters"};

std::string_view Stripped(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

// What the answer that begins so calls behind Llama 3's tag; empty: nothing, or an object, which is
// read elsewhere.
std::string CalledBehindTag(std::string_view head) {
  if (!head.starts_with(kTag)) return {};
  const std::string_view code = Stripped(head.substr(kTag.size()));
  if (code.empty() || code.front() == '{') return {};
  const std::string_view line = code.substr(0, std::min(code.find('\n'), kToolNameBytesMax));
  const size_t call = line.find(".call(");
  return call == line.npos ? "python" : std::string(line.substr(0, call));
}

// Several as one.
std::string Joined(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string joined = absl::StrJoin(names, "+");
  joined.resize(std::min(joined.size(), kToolNameBytesMax));
  return joined;
}

}  // namespace

void ShellBlock::Append(std::string_view text) {
  for (const char c : text) {
    if (c == '\n') {
      EndLine();
    } else if (line_.size() < kToolNameBytesMax) {  // of a longer one the beginning tells
      line_ += c;
    }
  }
}

std::string ShellBlock::Finish() {
  EndLine();
  return num_whole_ == 1 ? word_ : std::string();
}

void ShellBlock::EndLine() {
  constexpr std::string_view kFence = "```";
  constexpr std::array<std::string_view, 4> kShells = {"bash", "sh", "shell", "mswea_bash_command"};
  const std::string line = std::exchange(line_, {});
  const std::string_view text = Stripped(line);
  if (block_ == Block::kNone) {
    if (!text.starts_with(kFence)) return;
    const std::string_view language = Stripped(text.substr(kFence.size()));
    const bool is_shell = std::find(kShells.begin(), kShells.end(), language) != kShells.end();
    block_ = is_shell ? Block::kShell : Block::kOther;
    block_word_.clear();
  } else if (text == kFence) {
    if (block_ == Block::kShell && !block_word_.empty()) {
      ++num_whole_;
      word_ = block_word_;
    }
    block_ = Block::kNone;
  } else if (block_ == Block::kShell && block_word_.empty() && !text.starts_with('#')) {
    block_word_ = std::string(text.substr(0, text.find_first_of(" \t;|&<>()")));
  }
}

ToolNames::ToolNames(ToolCallFormat format) {
  constexpr std::array kOthers = {ToolCallFormat::kHermes, ToolCallFormat::kMistralNamed,
                                  ToolCallFormat::kLlama3, ToolCallFormat::kTags};
  const auto add = [this](const ToolCallSyntax& syntax) {
    formats_.push_back({.parser = ToolCallParser(syntax)});
  };
  if (format != ToolCallFormat::kUnknown) add(SyntaxOf(format));
  for (const ToolCallFormat other : kOthers) {
    if (other != format) add(SyntaxOf(other));
  }
  add(kTagged);
}

void ToolNames::Append(std::string_view text) {
  shell_.Append(text);
  for (Calls& format : formats_) {
    std::string no_call;
    std::vector<ToolCallDelta> calls;
    format.parser.Append(text, no_call, calls);
    for (ToolCallDelta& call : calls) {
      if (call.name.empty() || format.names.size() == kToolCallsMax) continue;
      format.names.push_back(std::move(call.name));
    }
  }
  if (head_.empty()) text.remove_prefix(std::min(text.find_first_not_of(kSpaces), text.size()));
  head_ += text.substr(0, kHeadBytesMax - head_.size());
}

std::string ToolNames::Finish() {
  for (auto& [parser, names] : formats_) {
    const bool is_last = names.size() == static_cast<size_t>(parser.num_calls());
    if (parser.in_arguments() && is_last) names.pop_back();  // cut off
    if (!names.empty()) return Joined(std::move(names));
  }
  const std::string called = CalledBehindTag(head_);
  return called.empty() ? shell_.Finish() : called;
}

}  // namespace holdfast
