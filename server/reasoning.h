// What a model thinks before it answers, between two marks, apart from the answer.
//
//   <think> reasoning </think> answer        the marks, and white space beside them, are dropped
//
// The prompt may end with the first mark (the chat template wrote it); then the text begins within.
// What comes out does not depend on how the text is cut.
//
// While a model thinks, its answer is not held to a form; with a budget, the second mark is forced
// once so many tokens were thought (ReasoningConstraint).
//
// Thread: one. Bound: white space that waits, by the answer's length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/ids.h"
#include "scheduler/request.h"
#include "server/mark_finder.h"
#include "text/text.h"

namespace holdfast {

struct ReasoningMarks {
  std::string_view open, close;
};

// Of a model with this chat template (Jinja); null: it is not known to reason. Sources: the
// templates of Qwen3, DeepSeek-R1, SmolLM3 and Magistral.
const ReasoningMarks* ReasoningMarksOf(std::string_view chat_template);

class ReasoningParser final {
 public:
  // `begun`: the prompt ends with the first mark.
  ReasoningParser(const ReasoningMarks& marks, bool begun);

  void Append(std::string_view next, std::string& reasoning, std::string& text);
  // The answer is over: what waits comes out, but for white space at the end of reasoning.
  void Finish(std::string& reasoning, std::string& text);
  bool thinking() const { return state_ == State::kThinking; }

 private:
  enum class State : uint8_t { kStart, kThinking, kBehind, kText };

  const ReasoningMarks marks_;
  State state_;
  bool begins_ = true;  // nothing of the reasoning has come out
  MarkFinder mark_;     // the one that comes next
};

// The marks in a model's tokens.
struct ReasoningTokens {
  std::optional<TokenId> open;  // none: it takes several
  std::vector<TokenId> close;
  std::vector<TokenId> past_close;  // those that hold the second mark and more behind it
  std::vector<TokenId> controls;    // those of the marks that are control tokens
};
ReasoningTokens FindReasoningTokens(const ReasoningMarks& marks, const Tokenizer& tokenizer);

bool EndsWithMark(std::span<const TokenId> prompt, std::string_view mark,
                  const Tokenizer& tokenizer);

struct ReasoningConstraintOptions {
  const ReasoningMarks* marks = nullptr;
  const ReasoningTokens* tokens = nullptr;
  const Tokenizer* tokenizer = nullptr;
  std::span<const TokenId> ends;  // of an answer
  int32_t vocab_size = 0;
  bool begun = false;
  std::optional<int32_t> budget;  // tokens, the second mark not counted
};

// Holds what comes after the reasoning to `answer`; null: to nothing. An answer that must have a
// form does not end within the reasoning. All that `options` points to must outlive it.
std::unique_ptr<TokenConstraint> MakeReasoningConstraint(const ReasoningConstraintOptions& options,
                                                         std::unique_ptr<TokenConstraint> answer);

}  // namespace holdfast
