#include "scheduler/sequence.h"

#include <algorithm>
#include <span>
#include <utility>

#include "config/base/check.h"

namespace holdfast {

const char* WaitReasonName(WaitReason reason) {
  switch (reason) {
    case WaitReason::kTurn:
      return "turn";
    case WaitReason::kPlaces:
      return "places";
    case WaitReason::kTenantPlaces:
      return "tenant_places";
    case WaitReason::kBlocks:
      return "blocks";
    case WaitReason::kStepRows:
      return "step_rows";
    case WaitReason::kPrefill:
      return "prefill";
    case WaitReason::kLookup:
      return "lookup";
    case WaitReason::kOnline:
      return "online";
  }
  return "turn";
}

bool ActiveRequest::WantsPromptLogprobs(const Sequence& sequence) const {
  return request.prompt_top_logprobs.has_value() && !prompt_done && sequence.order.choice == 0;
}

PrefixReuse ActiveRequest::ReuseOf(const Sequence& sequence) const {
  if (!request.reuse_prefix) return PrefixReuse::kNone;
  return WantsPromptLogprobs(sequence) ? PrefixReuse::kPublish : PrefixReuse::kMatchAndPublish;
}

namespace {

void KeepStopTokens(const std::vector<TokenId>& stop_tokens, Sequence& sequence) {
  const size_t near = std::min(stop_tokens.size(), kStopTokensNear);
  std::copy_n(stop_tokens.begin(), near, sequence.stop_tokens.begin());
  sequence.num_stop_tokens =
      static_cast<uint8_t>(std::min(stop_tokens.size(), kStopTokensNear + 1));
}

bool IsStopToken(const Sequence& sequence, TokenId token) {
  const std::vector<TokenId>* far = nullptr;
  if (sequence.num_stop_tokens > kStopTokensNear) far = &sequence.request->request.stop_tokens;
  const std::span<const TokenId> stop_tokens =
      far != nullptr ? std::span<const TokenId>(*far)
                     : std::span(sequence.stop_tokens).first(sequence.num_stop_tokens);
  return std::find(stop_tokens.begin(), stop_tokens.end(), token) != stop_tokens.end();
}

}  // namespace

std::unique_ptr<ActiveRequest> MakeActiveRequest(Request&& request, uint64_t arrival,
                                                 absl::Time now,
                                                 std::pmr::memory_resource& memory) {
  auto active = std::make_unique<ActiveRequest>(memory);
  active->request = std::move(request);
  active->prompt_size = static_cast<int32_t>(active->request.prompt.size());
  active->arrival = arrival;
  active->submitted = now;
  // Without a token to draw all choices are the same.
  const int32_t num_choices = active->draws() ? active->request.num_choices : 1;
  active->choices_left = num_choices;
  active->choices.reserve(static_cast<size_t>(num_choices));
  for (int32_t choice = 0; choice < num_choices; ++choice) {
    Sequence& sequence =
        active->choices.emplace_back(Sequence{.tokens = std::pmr::vector<TokenId>(&memory)});
    sequence.request = active.get();
    sequence.id = active->request.id;
    sequence.tenant = active->request.tenant;
    sequence.max_tokens = active->request.max_tokens;
    sequence.wants_logprobs = active->request.sampling.top_logprobs.has_value();
    sequence.scores_prompt = active->request.prompt_top_logprobs.has_value() && choice == 0;
    sequence.pooling = active->request.pooling;
    if (!active->request.masks.empty()) {
      sequence.mask = std::move(active->request.masks[static_cast<size_t>(choice)]);
      sequence.masked = true;
    }
    KeepStopTokens(active->request.stop_tokens, sequence);
    sequence.order = {.offline = active->request.offline,
                      .arrival = arrival,
                      .request = arrival,
                      .choice = choice};
  }
  const std::vector<TokenId> prompt = std::exchange(active->request.prompt, {});
  BeginTokens(prompt, active->choices.front());
  active->choices.front().state = SequenceState::kWaiting;
  return active;
}

void BeginTokens(std::span<const TokenId> prompt, Sequence& choice) {
  constexpr int32_t kFirstTokens = 64;
  const auto room = static_cast<size_t>(std::min(choice.max_tokens, kFirstTokens));
  choice.tokens.reserve(prompt.size() + room);
  choice.tokens.assign(prompt.begin(), prompt.end());
}

void FillOpen(const Sequence& sequence, SequenceOpen& open) {
  open.slot = sequence.slot;
  open.sampling = sequence.request->request.sampling;
  open.sampling.seed += static_cast<uint64_t>(sequence.order.choice);
  const auto prompt_end = sequence.tokens.begin() + sequence.num_prompt();
  open.prompt.assign(sequence.tokens.begin(), prompt_end);
  open.completion.assign(prompt_end, sequence.tokens.end());
}

bool IsEnding(const Sequence& sequence) { return sequence.ends_with_step || sequence.request_ends; }

bool EndsByLength(const Sequence& sequence, int32_t context_tokens) {
  return sequence.num_completion + sequence.undelivered >= sequence.max_tokens ||
         sequence.length() >= context_tokens;
}

std::optional<SequenceEnd> EndAfterLastToken(const Sequence& sequence, int32_t context_tokens) {
  CHECK(sequence.num_completion > 0);
  if (IsStopToken(sequence, sequence.last_drawn)) return SequenceEnd::kStopToken;
  if (sequence.num_completion >= sequence.max_tokens || sequence.num_tokens() >= context_tokens) {
    return SequenceEnd::kLength;
  }
  return std::nullopt;
}

}  // namespace holdfast
