// What comes of a step: tokens are delivered, prompts are done, blocks are published.
#include <algorithm>
#include <utility>

#include "config/base/check.h"
#include "config/base/prefetch.h"
#include "config/limits.h"
#include "scheduler/scheduler.h"

namespace holdfast {

absl::Status Scheduler::UndefinedError(const Sequence& sequence) {
  if (sequence.masked) {
    if (absl::Status failure = sequence.mask->failure(); !failure.ok()) return failure;
  }
  return absl::InternalError(
      "the model gave no finite number for this sequence; the same prompt will end the same way: "
      "change it, or serve the model with KV of more range (f32)");
}

void Scheduler::Commit(const StepResult& result, absl::Time now) {
  thread_.CheckThread();
  now_ = now;
  CHECK(step_running());
  std::swap(committed_, steps_[0]);
  std::swap(steps_[0], steps_[1]);
  --num_steps_;
  ReleaseMoves();
  NextEntries next;
  auto next_failed = result.gate_failed.begin();
  for (size_t i = 0; i < committed_.parts.size(); ++i) {
    const InFlight& part = committed_.parts[i];
    PrefetchCommit(i);
    usage_.AddRows(part.tenant, part.num_tokens + part.num_drafts);
    if (part.sequence != nullptr) {
      --part.sequence->num_steps;
      part.sequence->undelivered -= part.samples && !part.sequence->draw_known ? 1 : 0;
    }
    if (next_failed != result.gate_failed.end() && &part == &committed_.parts[*next_failed]) {
      ++next_failed;
      CHECK(part.ahead && part.sequence != nullptr);
      TakeBack(*part.sequence);
    } else {
      CommitSequence(part, result, next);
    }
  }
  CHECK(next_failed == result.gate_failed.end());
  CHECK(next.sample == result.samples.size());
  CHECK(next.prompt_logprob == result.prompt_logprobs.size());
  CHECK(next.pooled == result.pooled.size());
  for (ActiveRequest* request : ending_) EndRequest(*request, *request->ends_with_step);
  ending_.clear();
  CountCompletions();
  const absl::Duration took = now - committed_.begun;
  usage_.EndStep(took);
  LearnFrom(committed_, took);
  metrics_.step_rows.Observe(committed_.num_rows);
  metrics_.step_seconds.Observe(std::max(0.0, absl::ToDoubleSeconds(took)));
  steps_[0].begun = std::max(steps_[0].begun, now);  // if there is one
  NoteWaitsToDraft();
  PublishCounts();
}

void Scheduler::LearnFrom(const Step& step, absl::Duration took) {
  if (speculation_ != Speculation::kOff) {
    draft_cost_.OnStep(step.work.decode_rows + step.drafts, step.work.prefill_rows, took);
  }
  if (step.drafts > 0) return;  // what follows knows steps without them
  reload_.OnStep(step.work, took);
  forecast_.OnStep(step.work, took);
  pace_.OnStep(step.work.prefill_rows, took,
               forecast_.Of({.decode_rows = step.work.decode_rows}).value_or(absl::ZeroDuration()));
}

// In three stages, each of which reads what the one before it has brought near.
void Scheduler::PrefetchCommit(size_t index) const {
  const auto part_after = [&](size_t rounds) -> const InFlight* {
    const size_t at = index + rounds;
    if (at >= committed_.parts.size() || committed_.parts[at].sequence == nullptr) return nullptr;
    return &committed_.parts[at];
  };
  const auto publishes = [](const InFlight& part) {
    return part.sequence->computed_tokens + part.num_tokens >= part.sequence->publish_tokens;
  };
  if (const InFlight* const far = part_after(3 * kPrefetchRounds)) {
    Prefetch(far->sequence, kSequenceStepBytes);
  }
  if (const InFlight* const nearer = part_after(2 * kPrefetchRounds)) {
    const Sequence& sequence = *nearer->sequence;
    PrefetchToWrite(sequence.tokens.data() + sequence.tokens.size());
    if (publishes(*nearer)) {
      Prefetch(&sequence.published, sizeof(sequence.published));
      Prefetch(&sequence.blocks.back(), sizeof(BlockId));
      Prefetch(&sequence.request->request, sizeof(Request));
    }
  }
  const InFlight* const near = part_after(kPrefetchRounds);
  if (near == nullptr || !publishes(*near)) return;
  const Sequence& sequence = *near->sequence;
  store_.PrefetchPublish(sequence.tokens, sequence.computed_tokens + near->num_tokens,
                         sequence.request->ReuseOf(sequence), sequence.blocks, sequence.published);
}

// Not one by one: with many tenants' sequences each would touch another line of memory.
void Scheduler::CountCompletions() {
  for (size_t i = 0; i < drawn_.size(); ++i) {
    const int32_t drawn = std::exchange(drawn_[i], 0);
    if (drawn > 0) metrics_.Of(TenantIndex{static_cast<int32_t>(i)}).completion_tokens.Add(drawn);
  }
}

void Scheduler::EndWithStep(ActiveRequest& request, absl::Status status) {
  if (request.ends_with_step) return;
  request.ends_with_step = std::move(status);
  for (Sequence& choice : request.choices) choice.request_ends = true;
  ending_.push_back(&request);
}

void Scheduler::CommitSequence(const InFlight& part, const StepResult& result, NextEntries& next) {
  if (part.num_scored > 0) TakePromptLogprobs(part, result, next.prompt_logprob);
  if (part.pools) TakePooled(part, result, next.pooled);
  std::span<const SampledToken> sampled;
  if (part.samples) {
    const auto num_samples = static_cast<size_t>(1 + part.num_drafts);
    CHECK(next.sample + num_samples <= result.samples.size());
    sampled = std::span(result.samples).subspan(next.sample, num_samples);
    next.sample += num_samples;
  }
  if (part.sequence == nullptr) return;
  Sequence& sequence = *part.sequence;
  CHECK(sampled.empty() || sampled.front().slot == sequence.slot);
  if (part.ahead && !CatchUp(sequence)) {
    TakeBack(sequence);
  } else {
    CommitRows(part, result, sampled);
  }
}

bool Scheduler::CatchUp(Sequence& sequence) {
  if (!store_.HasAllArrived(sequence.blocks, sequence.published)) return false;
  const int32_t planned_tokens = sequence.planned_tokens;
  CHECK(Poll(sequence) == RestorePoll::State::kReady);
  sequence.planned_tokens = planned_tokens;
  NoteFound(sequence);
  return true;
}

// It is as if no row of it had been planned; its restore goes on or is cut, as the next Plan finds.
void Scheduler::TakeBack(Sequence& sequence) {
  metrics_.run_ahead_lost.Add();
  sequence.computed_tokens = sequence.planned_tokens = 0;
  sequence.gate = nullptr;
  sequence.opened = false;
  sequence.continues_pin = false;
  if (sequence.ends_with_step && !sequence.request->ends_with_step) EndSequence(sequence);
}

void Scheduler::CommitRows(const InFlight& part, const StepResult& result,
                           std::span<const SampledToken> sampled) {
  Sequence& sequence = *part.sequence;
  ActiveRequest& request = *sequence.request;
  if (sequence.request_ends) return;  // all of it goes when the step is through
  if (sequence.ends_with_step) {
    EndSequence(sequence);
    return;
  }
  // Passed over whatever it is: where no step was planned beside, nobody draws it.
  const bool is_known = !sampled.empty() && std::exchange(sequence.draw_known, false);
  if (!sampled.empty() && !is_known && sampled.front().undefined) {
    EndWithStep(request, UndefinedError(*part.sequence));
    return;
  }

  if (std::exchange(sequence.continues_pin, false)) {
    NoteContinued(request, sequence.continued_pin);
    ReleasePin(request, sequence.continued_pin);
  }
  sequence.computed_tokens += part.num_tokens;
  CHECK(sequence.computed_tokens <= sequence.planned_tokens);
  if (sequence.computed_tokens >= sequence.publish_tokens) Publish(sequence);
  // Its request's prompt is done where it has drawn tokens.
  if (sequence.num_completion == 0 && !request.prompt_done &&
      sequence.computed_tokens >= request.prompt_size) {
    FinishPrompt(request);
  }
  if (is_known) return;
  if (!sampled.empty()) {
    if (!DeliverToken(sequence, sampled.front(), result)) return;
    if (sequence.masked) {
      DeliverForced(sequence, result);
    } else {
      CommitDrafts(sequence, sampled.subspan(1), result);
    }
  } else if (sequence.max_tokens == 0 && sequence.computed_tokens == sequence.num_tokens()) {
    EndSequence(sequence);
  }
}

// Nothing more is to be told before another block is full, unless there is something left over.
void Scheduler::Publish(Sequence& sequence) {
  const ActiveRequest& request = *sequence.request;
  if (store_.Publish(request.request.reuse_scope, sequence.tokens, sequence.computed_tokens,
                     request.ReuseOf(sequence), now_, sequence.blocks, sequence.published)) {
    sequence.table_version = ++table_versions_;
  }
  sequence.publish_tokens = (sequence.published.num_blocks + 1) * kBlockTokens;
}

void Scheduler::TakePromptLogprobs(const InFlight& part, const StepResult& result, size_t& next) {
  CHECK(next + static_cast<size_t>(part.num_scored) <= result.prompt_logprobs.size());
  const std::span<const SampledToken> all =
      std::span(result.prompt_logprobs).subspan(next, static_cast<size_t>(part.num_scored));
  next += all.size();
  if (part.sequence == nullptr) return;
  ActiveRequest& request = *part.sequence->request;
  for (const SampledToken& scored : all) {
    CHECK(scored.slot == part.sequence->slot);
    if (scored.undefined) EndWithStep(request, UndefinedError(*part.sequence));
    if (request.ends_with_step) continue;
    const std::span<const TokenLogprob> top = result.TopOf(scored);
    request.prompt_logprobs.push_back({.chosen = {.token = scored.token, .logprob = scored.logprob},
                                       .top = {top.begin(), top.end()}});
  }
}

void Scheduler::TakePooled(const InFlight& part, const StepResult& result, size_t& next) {
  CHECK(next < result.pooled.size());
  const PooledState& pooled = result.pooled[next++];
  if (part.sequence == nullptr) return;
  CHECK(pooled.slot == part.sequence->slot);
  ActiveRequest& request = *part.sequence->request;
  if (pooled.undefined) EndWithStep(request, UndefinedError(*part.sequence));
  if (request.ends_with_step) return;
  const auto state =
      std::span(result.states)
          .subspan(static_cast<size_t>(pooled.begin), static_cast<size_t>(engine_.embedding_size));
  request.pooled.assign(state.begin(), state.end());
}

void Scheduler::FinishPrompt(ActiveRequest& request) {
  request.prompt_done = true;
  SchedulerMetrics::Tenant& metrics = metrics_.Of(request.request.tenant);
  metrics.prompt_tokens.Add(request.prompt_size);
  metrics.cached_tokens.Add(*request.cached_tokens);
  metrics.AddHits(request.hit_tokens);
  sink_.OnPrompt({.request = request.request.id,
                  .cached_tokens = *request.cached_tokens,
                  .prompt_logprobs = std::move(request.prompt_logprobs),
                  .pooled = std::move(request.pooled)});
  for (size_t choice = 1; choice < request.choices.size(); ++choice) {
    Sequence& sequence = request.choices[choice];
    CHECK(sequence.state == SequenceState::kHeldBack);
    BeginTokens(std::span(request.choices.front().tokens).first(request.prompt_size), sequence);
    sequence.state = SequenceState::kWaiting;
    AddWaiting(sequence);
  }
}

bool Scheduler::DeliverToken(Sequence& sequence, const SampledToken& sampled,
                             const StepResult& result) {
  sequence.tokens.push_back(sampled.token);
  sequence.last_drawn = sampled.token;
  ++sequence.num_completion;
  const std::optional<SequenceEnd> end = EndAfterLastToken(sequence, engine_.context_tokens);
  TokenEvent event{
      .request = sequence.id, .choice = sequence.order.choice, .token = sampled.token, .end = end};
  if (sequence.wants_logprobs) {
    const std::span<const TokenLogprob> top = result.TopOf(sampled);
    event.logprob = sampled.logprob;
    event.top.assign(top.begin(), top.end());
  }
  ++drawn_[static_cast<size_t>(Number(sequence.tenant))];
  sink_.OnToken(std::move(event));
  if (end) {
    EndSequence(sequence);
    return false;
  }
  if (SpeculatesNow()) sequence.repeats.OnToken(sequence.tokens);
  return true;
}

// A step planned beside draws the first of them again, from the row of the one before it. Who wants
// log probabilities has each token drawn from its own row.
void Scheduler::DeliverForced(Sequence& sequence, const StepResult& result) {
  if (sequence.wants_logprobs) return;
  sequence.mask->ForcedAfter(sequence.num_completion - 1, kForcedTokensMax, forced_);
  if (forced_.empty()) return;
  sequence.draw_known = std::exchange(sequence.undelivered, 0) > 0;
  sequence.num_untold = static_cast<int32_t>(forced_.size()) - (sequence.draw_known ? 1 : 0);
  for (const TokenId token : forced_) {
    metrics_.forced_tokens.Add(1);
    if (!DeliverToken(sequence, {.slot = sequence.slot, .token = token}, result)) return;
  }
}

}  // namespace holdfast
