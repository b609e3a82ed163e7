#include "server/choice_text.h"

#include <optional>
#include <string_view>
#include <utility>

#include "absl/hash/hash.h"

namespace holdfast {
namespace {

// Nine letters and digits: the chat templates of Mistral's models take no others back.
std::string CallId(size_t number) {
  constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyz";
  std::string id;
  for (int i = 0; i < 9; ++i) {
    id += kLetters[number % kLetters.size()];
    number /= kLetters.size();
  }
  return id;
}

}  // namespace

ChoiceText::ChoiceText(int32_t choice, const GenerationRequest& request, const Tokenizer& tokenizer,
                       const AnswerMarks& marks)
    : choice_(choice),
      wire_id_(request.tool_calls.has_value() ? request.wire_id : std::string()),
      tokenizer_(tokenizer),
      want_text_(request.want_text),
      want_logprobs_(request.sampling.top_logprobs.has_value()),
      include_stop_(request.include_stop),
      hides_special_(request.want_text && request.skip_special_tokens),
      min_tokens_(request.sampling.min_tokens),
      detokenizer_(tokenizer,
                   request.skip_special_tokens ? SpecialText::kHide : SpecialText::kShow),
      matcher_(request.stop, request.include_stop) {
  if (marks.reasoning != nullptr) reasoning_.emplace(*marks.reasoning, marks.reasoning_begun);
  if (request.tool_calls.has_value()) {
    calls_.emplace(SyntaxOf(request.tool_calls->format), request.tool_calls->rules);
  }
  detokenizer_.ShowAlso(marks.controls);
}

ChoiceDelta ChoiceText::Add(TokenEvent event) {
  ChoiceDelta delta{.choice = choice_};
  if (ended_) return delta;
  ++completion_tokens_;
  if (event.end.has_value()) {
    ended_ = true;
    delta.finish =
        *event.end == SequenceEnd::kStopToken ? FinishReason::kStop : FinishReason::kLength;
  }
  if (want_text_) {
    AddText(event, delta);
  } else {
    if (want_logprobs_) delta.logprobs.push_back(Describe(event));
    delta.tokens.push_back(event.token);
  }
  return delta;
}

ChoiceDelta ChoiceText::EndAtLength() {
  ended_ = true;
  return {.choice = choice_, .finish = FinishReason::kLength};
}

void ChoiceText::AddText(TokenEvent& event, ChoiceDelta& delta) {
  // The token that ends the text is no part of it, unless the caller wants to see what ended it.
  const bool hidden = event.end == SequenceEnd::kStopToken && !include_stop_;
  std::string text;
  if (!hidden) {
    detokenizer_.Append(event.token, text);
    waiting_.push_back({.token = Describe(event)});
  }
  if (ended_) detokenizer_.Finish(text);
  if (tools_) {
    // The marks of some formats are control tokens, which the text may not show.
    if (!hidden && detokenizer_.Hides(event.token)) {
      tools_->Append(tokenizer_.TokenBytes(event.token));
    }
    tools_->Append(text);
  }
  if (!text.empty() || ended_) Place(text.size());

  std::optional<StopMatch> match;
  if (completion_tokens_ <= min_tokens_) {
    delta.text = std::move(text);
  } else {
    match = matcher_.Append(text, delta.text);
    if (ended_ && !match.has_value()) matcher_.Finish(delta.text);
  }
  shown_bytes_ += static_cast<int64_t>(delta.text.size());
  if (match.has_value()) {
    ended_ = true;
    delta.finish = FinishReason::kStop;
    delta.stop_string = match->stop;
  }
  Show(delta, match.has_value());
  if (reasoning_) TakeReasoning(delta);
  if (calls_) TakeCalls(delta);
}

void ChoiceText::TakeReasoning(ChoiceDelta& delta) {
  const bool was_thinking = reasoning_->thinking();
  const std::string text = std::exchange(delta.text, {});
  reasoning_->Append(text, delta.reasoning, delta.text);
  if (was_thinking || reasoning_->thinking()) ++reasoning_tokens_;
  if (ended_) reasoning_->Finish(delta.reasoning, delta.text);
}

void ChoiceText::TakeCalls(ChoiceDelta& delta) {
  const std::string text = std::exchange(delta.text, {});
  calls_->Append(text, delta.text, delta.tool_calls);
  for (ToolCallDelta& call : delta.tool_calls) {
    if (!call.name.empty()) call.id = CallId(absl::HashOf(wire_id_, choice_, call.index));
  }
  if (!ended_) return;
  const bool by_itself =
      delta.finish == FinishReason::kStop && delta.stop_string.empty() && !calls_->in_arguments();
  // The markup of a call that was cut before its name is nothing to show.
  if (!calls_->in_opening()) calls_->Finish(delta.text);
  if (by_itself && calls_->num_calls() > 0) delta.finish = FinishReason::kToolCalls;
}

// The tokens that have none yet get the text that the detokenizer has just given: where several
// make one character, it is the text of all of them.
void ChoiceText::Place(size_t bytes) {
  const int64_t end = text_bytes_ + static_cast<int64_t>(bytes);
  for (; num_placed_ < waiting_.size(); ++num_placed_) {
    waiting_[num_placed_].begin = text_bytes_;
    waiting_[num_placed_].end = end;
  }
  text_bytes_ = end;
}

void ChoiceText::Show(ChoiceDelta& delta, bool stopped) {
  while (num_placed_ > 0) {
    Waiting& next = waiting_.front();
    if (stopped ? next.begin >= shown_bytes_ : next.end > shown_bytes_) break;
    delta.tokens.push_back(next.token.chosen.token);
    if (want_logprobs_) delta.logprobs.push_back(std::move(next.token));
    waiting_.pop_front();
    --num_placed_;
  }
}

TokenTextWithTop ChoiceText::Describe(const TokenEvent& event) const {
  if (!want_logprobs_) return {.chosen = {.token = event.token}};
  TokenTextWithTop described{.chosen = {.token = event.token,
                                        .bytes = std::string(tokenizer_.TokenBytes(event.token)),
                                        .logprob = event.logprob}};
  described.hidden = hides_special_ && tokenizer_.IsSpecial(event.token);
  described.top.reserve(event.top.size());
  for (const TokenLogprob& other : event.top) {
    described.top.push_back({.token = other.token,
                             .bytes = std::string(tokenizer_.TokenBytes(other.token)),
                             .logprob = other.logprob});
  }
  return described;
}

bool IsEmpty(const ChoiceDelta& delta) {
  return delta.reasoning.empty() && delta.text.empty() && delta.tokens.empty() &&
         delta.tool_calls.empty() && !delta.finish.has_value();
}

}  // namespace holdfast
