#include "server/generation_task.h"

#include <utility>

#include "config/base/check.h"
#include "server/embedding.h"
#include "server/utf8.h"

namespace holdfast {

GenerationTask::GenerationTask(RequestId id, GenerationRequest request, std::vector<TokenId> prompt,
                               StreamWriter writer, const Tokenizer& tokenizer,
                               TenantGenerationMetrics& metrics, const AnswerMarks& marks)
    : id_(id),
      request_(std::move(request)),
      prompt_(std::move(prompt)),
      writer_(std::move(writer)),
      tokenizer_(tokenizer),
      metrics_(metrics) {
  choices_.reserve(request_.num_choices);
  for (int32_t i = 0; i < request_.num_choices; ++i) {
    choices_.emplace_back(i, request_, tokenizer, marks);
  }
  last_token_at_.assign(request_.num_choices, absl::InfinitePast());
}

void GenerationTask::OnPrompt(PromptEvent event) {
  cached_tokens_ = event.cached_tokens;
  metrics_.prompt_tokens.Add(static_cast<double>(prompt_.size()));
  metrics_.cached_tokens.Add(cached_tokens_);
  PromptInfo info{.prompt_tokens = static_cast<int32_t>(prompt_.size()),
                  .cached_tokens = cached_tokens_};
  if (request_.echo && request_.want_text) SpellPrompt(info);
  if (request_.echo || request_.prompt_top_logprobs.has_value()) info.tokens = prompt_;
  if (request_.prompt_top_logprobs.has_value()) {
    info.logprobs.reserve(prompt_.size());
    info.logprobs.emplace_back(std::nullopt);
    for (const auto& token : event.prompt_logprobs) info.logprobs.emplace_back(Describe(token));
  }
  if (request_.embedding.has_value()) {
    info.embedding = ToEmbedding(std::move(event.pooled), request_.embedding->dimensions);
  }
  Send(std::move(info));
}

bool GenerationTask::OnToken(TokenEvent event, absl::Time at) {
  CHECK(event.choice >= 0 && static_cast<size_t>(event.choice) < choices_.size());
  const bool last = event.end.has_value();
  if (last) ++num_ended_sequences_;
  ChoiceText& choice = choices_[event.choice];
  if (ended_ || choice.ended()) return false;  // drawn before the scheduler heard of the end
  absl::Time& last_at = last_token_at_[event.choice];
  if (first_token_at_ == absl::InfinitePast()) {
    first_token_at_ = at;
    metrics_.time_to_first_token.Observe(absl::ToDoubleSeconds(at - request_.arrival));
  }
  if (last_at != absl::InfinitePast()) {
    metrics_.inter_token_latency.Observe(absl::ToDoubleSeconds(at - last_at));
  }
  last_at = at;
  metrics_.completion_tokens.Add(1);
  ChoiceDelta delta = choice.Add(std::move(event));
  if (!IsEmpty(delta)) Send(std::move(delta));
  return choice.ended() && !last;
}

std::optional<std::string> GenerationTask::TakeTool() {
  ChoiceText& first = choices_.front();
  if (tool_taken_ || !first.reads_tools() || !first.ended()) return std::nullopt;
  tool_taken_ = true;
  return first.FinishTools();
}

void GenerationTask::AnswerWithoutTokens() { OnPrompt({.request = id_}); }

void GenerationTask::End(absl::Status status) {
  if (ended_) return;
  ended_ = true;
  GenerationDone done{.status = std::move(status),
                      .prompt_tokens = static_cast<int32_t>(prompt_.size()),
                      .cached_tokens = cached_tokens_};
  if (request_.retain) {
    done.kept_for = pinned_ && done.status.ok() ? request_.retain->ttl : absl::ZeroDuration();
  }
  for (ChoiceText& choice : choices_) {
    if (done.status.ok() && !choice.ended()) Send(choice.EndAtLength());
    done.completion_tokens += choice.completion_tokens();
    done.reasoning_tokens += choice.reasoning_tokens();
  }
  Send(std::move(done));
}

int32_t GenerationTask::completion_tokens() const {
  int32_t count = 0;
  for (const ChoiceText& choice : choices_) count += choice.completion_tokens();
  return count;
}

bool GenerationTask::all_choices_ended() const {
  for (const ChoiceText& choice : choices_) {
    if (!choice.ended()) return false;
  }
  return true;
}

void GenerationTask::Send(GenerationEvent event) {
  if (!writer_.Push(std::move(event))) reader_gone_ = true;
}

// The text, and with logprobs where each token begins in it.
void GenerationTask::SpellPrompt(PromptInfo& info) const {
  // As the caller wrote it, where there is such a thing: tokens may not spell it byte for byte.
  const auto* written = std::get_if<std::string>(&request_.prompt);
  if (written != nullptr) info.text = *written;
  const bool want_offsets = request_.prompt_top_logprobs.has_value();
  if (written != nullptr && !want_offsets) return;
  // Control tokens beside a written text are the model's own, as its first one is.
  const bool hide = written != nullptr || request_.skip_special_tokens;
  Detokenizer detokenizer(tokenizer_, hide ? SpecialText::kHide : SpecialText::kShow,
                          FirstSpace::kDrop);
  std::string text;
  int64_t num_characters = 0;
  for (const TokenId token : prompt_) {
    if (want_offsets) info.text_offsets.push_back(num_characters);
    const size_t before = text.size();
    detokenizer.Append(token, text);
    num_characters += NumCharacters(std::string_view(text).substr(before));
  }
  detokenizer.Finish(text);
  if (written == nullptr) info.text = std::move(text);
}

TokenTextWithTop GenerationTask::Describe(const PromptEvent::TokenWithTop& token) const {
  TokenTextWithTop described{.chosen = Describe(token.chosen)};
  for (const TokenLogprob& other : token.top) described.top.push_back(Describe(other));
  return described;
}

TokenText GenerationTask::Describe(const TokenLogprob& token) const {
  return {.token = token.token,
          .bytes = std::string(tokenizer_.TokenBytes(token.token)),
          .logprob = token.logprob};
}

}  // namespace holdfast
