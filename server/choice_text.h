// From the tokens of one choice to what its client sees: text without stop strings, and the tokens
// and logprobs that belong to that text.
//
//   token ─► detokenizer ─► stop matcher ─► [reasoning and tool calls taken out] ─► shown
//                │               │
//                └── where a token's text lies; a token is shown when all of its text is
//
// A token that makes only part of a character waits for the one that completes it. Text that may be
// the start of a stop string waits too, and its tokens with it. Of a hidden stop string neither
// text nor tokens are shown; a token that is partly before it is. All count as completion tokens up
// to and including the one that completed it; what the scheduler had drawn beyond is dropped.
//
// Thread: one.    Bound: waiting text by the longest stop string, waiting tokens by that text.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/events.h"
#include "server/detokenizer.h"
#include "server/generation.h"
#include "server/reasoning.h"
#include "server/stop_matcher.h"
#include "server/tool_call_parser.h"
#include "server/tool_names.h"
#include "text/text.h"

namespace holdfast {

// By what an answer's parts are told apart.
struct AnswerMarks {
  std::vector<TokenId> controls;              // control tokens that are marks
  const ReasoningMarks* reasoning = nullptr;  // null: no reasoning is told apart
  bool reasoning_begun = false;               // by the prompt
};

class ChoiceText final {
 public:
  // `tokenizer` must outlive this; `request` is only looked at.
  ChoiceText(int32_t choice, const GenerationRequest& request, const Tokenizer& tokenizer,
             const AnswerMarks& marks = {});

  // From the first token on, notes which tools the text calls.
  void ReadTools(ToolCallFormat format) { tools_.emplace(format); }

  // What the token lets be shown; the delta may be empty (see IsEmpty). After the end: empty.
  ChoiceDelta Add(TokenEvent event);
  // Ends without a token: nothing was to be produced.
  ChoiceDelta EndAtLength();

  bool ended() const { return ended_; }
  int32_t completion_tokens() const { return completion_tokens_; }
  int32_t reasoning_tokens() const { return reasoning_tokens_; }
  // Once it has ended, and once, where tools are read: see ToolNames::Finish.
  std::string FinishTools() { return tools_->Finish(); }
  bool reads_tools() const { return tools_.has_value(); }

 private:
  struct Waiting {
    TokenTextWithTop token;
    int64_t begin = 0, end = 0;  // bytes of the choice's text, once placed
  };

  void AddText(TokenEvent& event, ChoiceDelta& delta);
  void Place(size_t bytes);
  void Show(ChoiceDelta& delta, bool stopped);
  void TakeReasoning(ChoiceDelta& delta);
  void TakeCalls(ChoiceDelta& delta);
  TokenTextWithTop Describe(const TokenEvent& event) const;

  const int32_t choice_;
  const std::string wire_id_;  // with tool calls: their ids are made of it
  const Tokenizer& tokenizer_;
  const bool want_text_, want_logprobs_, include_stop_, hides_special_;
  const int32_t min_tokens_;
  Detokenizer detokenizer_;
  StopMatcher matcher_;
  std::optional<ReasoningParser> reasoning_;
  std::optional<ToolCallParser> calls_;
  std::optional<ToolNames> tools_;
  std::deque<Waiting> waiting_;
  size_t num_placed_ = 0;    // of `waiting_`, from the front
  int64_t text_bytes_ = 0;   // that the detokenizer has given
  int64_t shown_bytes_ = 0;  // that went out
  int32_t completion_tokens_ = 0, reasoning_tokens_ = 0;
  bool ended_ = false;
};

bool IsEmpty(const ChoiceDelta& delta);

}  // namespace holdfast
