#include "server/reasoning.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"

namespace holdfast {
namespace {

void Allow(TokenId token, std::span<uint32_t> words) {
  words[static_cast<size_t>(token) / 32] |= 1u << (token % 32);
}

class ReasoningConstraint final : public TokenConstraint {
 public:
  ReasoningConstraint(const ReasoningConstraintOptions& options,
                      std::unique_ptr<TokenConstraint> answer)
      : marks_(*options.marks),
        tokens_(*options.tokens),
        tokenizer_(*options.tokenizer),
        ends_(options.ends.begin(), options.ends.end()),
        vocab_size_(options.vocab_size),
        budget_(options.budget),
        answer_(std::move(answer)),
        state_(options.begun ? State::kThinking : State::kStart) {}

  absl::Status Consume(TokenId token) override {
    if (state_ == State::kThinking) {
      Think(token);
      return absl::OkStatus();
    }
    if (state_ == State::kStart && BeginsToThink(token)) return absl::OkStatus();
    state_ = State::kAnswer;
    return answer_ == nullptr ? absl::OkStatus() : answer_->Consume(token);
  }

  absl::Status Next(std::span<uint32_t> words, std::vector<TokenId>& forced) override {
    forced.clear();
    if (state_ == State::kThinking) {
      const std::span<const TokenId> closing = ForcedClosing();
      forced.assign(closing.begin(), closing.end());
      if (forced.empty()) AllowAll(words);
      if (answer_ == nullptr || !forced.empty()) return absl::OkStatus();
      // The answer is still to come, and all of it is held to its form.
      Forbid(ends_, words);
      Forbid(tokens_.past_close, words);
      ForbidPastClose(words);
      return absl::OkStatus();
    }
    if (answer_ == nullptr) {
      AllowAll(words);
      return absl::OkStatus();
    }
    absl::Status status = answer_->Next(words, forced);
    if (!status.ok() || state_ == State::kAnswer || !tokens_.open.has_value()) return status;
    // It may think first.
    if (!forced.empty()) {
      std::fill(words.begin(), words.end(), 0);
      Allow(forced.front(), words);
      forced.clear();
    }
    Allow(*tokens_.open, words);
    return status;
  }

 private:
  enum class State : uint8_t { kStart, kThinking, kAnswer };

  // As the parser sees it, which finds the first mark spelled as well. With a form only one token
  // of it was allowed.
  bool BeginsToThink(TokenId token) {
    if (token == tokens_.open) {
      state_ = State::kThinking;
      return true;
    }
    if (answer_ != nullptr) return false;
    tail_ += tokenizer_.TokenBytes(token);
    tail_.erase(0, tail_.size() - WithoutLeadingSpace(tail_).size());
    if (!tail_.starts_with(marks_.open)) return marks_.open.starts_with(tail_);
    tail_.erase(0, marks_.open.size());
    state_ = State::kThinking;
    return true;
  }
  // Tokens that end a second mark which has begun and go on behind it.
  void ForbidPastClose(std::span<uint32_t> words) const {
    const std::string_view tail = tail_;
    for (size_t size = std::min(tail.size(), marks_.close.size() - 1); size > 0; --size) {
      if (!marks_.close.starts_with(tail.substr(tail.size() - size))) continue;
      const std::string_view rest = marks_.close.substr(size);
      for (TokenId token = 0; token < tokenizer_.vocab_size(); ++token) {
        const std::string_view bytes = tokenizer_.TokenBytes(token);
        if (bytes.size() > rest.size() && bytes.starts_with(rest)) Forbid({&token, 1}, words);
      }
    }
  }
  void Think(TokenId token) {
    ++num_thought_;
    const bool closes = !tokens_.close.empty() && token == ClosingFrom(num_closing_).front();
    num_closing_ = closes ? num_closing_ + 1 : 0;
    tail_ += tokenizer_.TokenBytes(token);
    if (tail_.find(marks_.close) != std::string::npos) {
      state_ = State::kAnswer;
    } else if (tail_.size() >= marks_.close.size()) {
      tail_.erase(0, tail_.size() - marks_.close.size() + 1);
    }
  }
  std::span<const TokenId> ClosingFrom(size_t index) const {
    return std::span(tokens_.close).subspan(std::min(index, tokens_.close.size() - 1));
  }
  // What is left of it, once the budget is used up.
  std::span<const TokenId> ForcedClosing() const {
    if (!budget_.has_value() || num_thought_ < *budget_ || tokens_.close.empty()) return {};
    return ClosingFrom(num_closing_);
  }
  void AllowAll(std::span<uint32_t> words) const {
    std::fill(words.begin(), words.end(), 0);
    for (TokenId token = 0; token < vocab_size_; token += 32) {
      const int32_t left = vocab_size_ - token;
      words[static_cast<size_t>(token) / 32] = left >= 32 ? ~0u : (1u << left) - 1;
    }
  }
  static void Forbid(std::span<const TokenId> tokens, std::span<uint32_t> words) {
    for (const TokenId token : tokens) {
      words[static_cast<size_t>(token) / 32] &= ~(1u << (token % 32));
    }
  }

  const ReasoningMarks& marks_;
  const ReasoningTokens& tokens_;
  const Tokenizer& tokenizer_;
  const std::vector<TokenId> ends_;
  const int32_t vocab_size_;
  const std::optional<int32_t> budget_;
  const std::unique_ptr<TokenConstraint> answer_;
  State state_;
  int32_t num_thought_ = 0;
  size_t num_closing_ = 0;  // tokens of the second mark, the last ones
  std::string tail_;        // of what was thought
};

}  // namespace

const ReasoningMarks* ReasoningMarksOf(std::string_view chat_template) {
  static constexpr ReasoningMarks kThink = {"<think>", "</think>"};
  static constexpr ReasoningMarks kMagistral = {"[THINK]", "[/THINK]"};
  for (const ReasoningMarks* marks : {&kThink, &kMagistral}) {
    if (chat_template.find(marks->close) != std::string_view::npos) return marks;
    if (chat_template.find(marks->open) != std::string_view::npos) return marks;
  }
  return nullptr;
}

ReasoningParser::ReasoningParser(const ReasoningMarks& marks, bool begun)
    : marks_(marks),
      state_(begun ? State::kThinking : State::kStart),
      mark_(begun ? marks.close : marks.open) {}

void ReasoningParser::Append(std::string_view next, std::string& reasoning, std::string& text) {
  for (const char c : next) {
    if (state_ == State::kBehind && !IsJsonSpace(c)) state_ = State::kText;
    if (state_ == State::kText) text += c;
    if (state_ == State::kText || state_ == State::kBehind) continue;
    std::string passed;
    if (mark_.Read(c, passed)) {
      state_ = state_ == State::kStart ? State::kThinking : State::kBehind;
      mark_ = MarkFinder(marks_.close);
    } else if (!passed.empty() && state_ == State::kStart) {  // it does not think
      state_ = State::kText;
      text += passed + mark_.Take();
    } else if (!passed.empty()) {
      reasoning += std::exchange(begins_, false) ? WithoutLeadingSpace(passed) : passed;
    }
  }
}

void ReasoningParser::Finish(std::string& reasoning, std::string& text) {
  const std::string waiting = mark_.Take();
  const std::string_view mark = WithoutLeadingSpace(waiting);
  if (state_ == State::kStart) text += waiting;
  if (state_ == State::kThinking && !mark.empty()) reasoning += begins_ ? mark : waiting;
}

ReasoningTokens FindReasoningTokens(const ReasoningMarks& marks, const Tokenizer& tokenizer) {
  ReasoningTokens found;
  for (TokenId token = 0; token < tokenizer.vocab_size(); ++token) {
    const std::string_view bytes = tokenizer.TokenBytes(token);
    const size_t at = bytes.find(marks.close);
    if (at != bytes.npos && at + marks.close.size() < bytes.size()) {
      found.past_close.push_back(token);
    }
    if (bytes != marks.open && bytes != marks.close) continue;
    if (bytes == marks.open) found.open = token;
    if (bytes == marks.close) found.close = {token};
    if (tokenizer.IsSpecial(token)) found.controls.push_back(token);
  }
  if (found.close.empty()) {
    const absl::Status encoded = tokenizer.Encode(marks.close, SpecialTokens::kPlain,
                                                  /*add_bos_eos=*/false, found.close);
    if (!encoded.ok()) found.close.clear();
  }
  return found;
}

bool EndsWithMark(std::span<const TokenId> prompt, std::string_view mark,
                  const Tokenizer& tokenizer) {
  constexpr size_t kTokens = 24;  // more than a mark and the white space behind it
  std::string tail;
  for (const TokenId token : prompt.last(std::min(prompt.size(), kTokens))) {
    tail += tokenizer.TokenBytes(token);
  }
  while (!tail.empty() && IsJsonSpace(tail.back())) tail.pop_back();
  return tail.ends_with(mark);
}

std::unique_ptr<TokenConstraint> MakeReasoningConstraint(const ReasoningConstraintOptions& options,
                                                         std::unique_ptr<TokenConstraint> answer) {
  return std::make_unique<ReasoningConstraint>(options, std::move(answer));
}

}  // namespace holdfast
