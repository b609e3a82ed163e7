// Drafts: rows beyond the one that a sequence needs, for tokens that it will probably draw next
// (policy/prompt_lookup.h). They come last, of what everybody else leaves of the step, and in the
// room of blocks that the sequence has anyway.
#include <algorithm>
#include <utility>

#include "config/base/check.h"
#include "scheduler/kept_tables.h"
#include "scheduler/scheduler.h"

namespace holdfast {
namespace {

// Beside more sequences hardly any draft pays, and looking for them costs all of them some time.
constexpr size_t kAutoSequencesMax = 16;

}  // namespace

bool Scheduler::SpeculatesNow() const {
  return speculation_ == Speculation::kAlways ||
         (speculation_ == Speculation::kAuto && running_.size() <= kAutoSequencesMax);
}

// As many as it could take, if the token before the first is known.
int32_t Scheduler::DraftsMax(const Sequence& sequence) const {
  if (sequence.num_completion == 0 || sequence.order.offline || IsEnding(sequence)) return 0;
  if (sequence.masked) return 0;  // drawn before the drafts are, one mask a step
  if (sequence.restoring || !sequence.repeats.HasDrafts(sequence.tokens)) return 0;
  const auto room = static_cast<int32_t>(sequence.blocks.size()) * kBlockTokens;
  // The row for its last token and those for drafts lie in its blocks; and it draws one more token
  // than it has drafts, as many as it may have at most.
  return std::min({options_.draft_tokens_max, room - sequence.num_tokens(),
                   sequence.max_tokens - sequence.num_completion - 1,
                   engine_.context_tokens - sequence.num_tokens() - 1});
}

// Of the step's parts, those that could draft; fills draft_candidates_ and drafting_.
void Scheduler::ListDrafters(const Step& step) {
  draft_candidates_.clear();
  drafting_.clear();
  for (size_t i = 0; i < step.parts.size(); ++i) {
    const InFlight& part = step.parts[i];
    if (part.sequence == nullptr || !part.samples || part.ahead || part.num_tokens != 1) continue;
    const int32_t most = DraftsMax(*part.sequence);
    if (most <= 0) continue;
    draft_candidates_.push_back({.lookup = &part.sequence->repeats, .most = most});
    drafting_.push_back(static_cast<int32_t>(i));
  }
}

// True: some were dealt.
bool Scheduler::DealDrafts(const Step& step, int32_t rows_left) {
  ListDrafters(step);
  if (draft_candidates_.empty() || rows_left <= 0) return false;
  if (speculation_ == Speculation::kAlways) {
    for (DraftCandidate& candidate : draft_candidates_) {
      candidate.drafts = std::min(candidate.most, rows_left);
      rows_left -= candidate.drafts;
    }
    return true;
  }
  if (!draft_cost_.known()) return false;
  const DraftCost::Cost cost = draft_cost_.Of();
  holdfast::DealDrafts({.num_sequences = static_cast<int32_t>(step.parts.size()),
                        .seconds = cost.Of(step.work.decode_rows, step.work.prefill_rows),
                        .row_seconds = cost.row,
                        .drafts_max = rows_left},
                       draft_candidates_);
  return std::any_of(draft_candidates_.begin(), draft_candidates_.end(),
                     [](const DraftCandidate& candidate) { return candidate.drafts > 0; });
}

void Scheduler::AddDrafts(const Chunker& chunker, StepPlan& plan) {
  waits_to_draft_ = false;
  // Beside a step that runs the token before the drafts is not known.
  if (!SpeculatesNow() || step_running() || planned().ahead) return;
  const int32_t rows_left =
      std::min(chunker.left(), step_tokens_max_ - static_cast<int32_t>(plan.tokens.size()));
  if (DealDrafts(planned(), rows_left)) PutDrafts(plan);
}

// Each sequence's rows lie together: from the last on, rows move up to where there is room for the
// drafts before them.
void Scheduler::PutDrafts(StepPlan& plan) {
  int32_t num_drafts = 0;
  for (const DraftCandidate& candidate : draft_candidates_) num_drafts += candidate.drafts;
  plan.tokens.resize(plan.tokens.size() + static_cast<size_t>(num_drafts));
  int32_t shift = num_drafts;  // of the rows of part i, and those after it until now
  size_t next = drafting_.size();
  for (size_t i = plan.sequences.size(); shift > 0;) {
    PlanSequence& part = plan.sequences[--i];
    const bool drafts = next > 0 && drafting_[next - 1] == static_cast<int32_t>(i);
    const int32_t own = drafts ? draft_candidates_[--next].drafts : 0;
    shift -= own;
    const auto begin = plan.tokens.begin() + part.tokens_begin;
    if (shift > 0) {
      std::move_backward(begin, begin + part.num_tokens, begin + part.num_tokens + shift);
    }
    part.tokens_begin += shift;
    if (own > 0) PutDraftsOf(planned().parts[i], own, part, plan);
  }
  planned().num_samples += num_drafts;
  planned().drafts = num_drafts;
}

// What is drawn for it costs what it would otherwise; each draft what a row of a prompt costs,
// whether it is right or wrong: that is what others wait for.
void Scheduler::PutDraftsOf(InFlight& in_flight, int32_t num_drafts, PlanSequence& part,
                            StepPlan& plan) {
  Sequence& sequence = *in_flight.sequence;
  part.num_tokens += num_drafts;
  part.num_drafts = num_drafts;
  sequence.repeats.Draft(sequence.tokens, std::span(plan.tokens)
                                              .subspan(static_cast<size_t>(part.tokens_begin) + 1,
                                                       static_cast<size_t>(num_drafts)));
  const int32_t num_blocks = BlocksFor(part.first_position + part.num_tokens);
  part.blocks_begin =
      KeepTable(plan, sequence.slot, sequence.table_version, sequence.blocks, num_blocks);
  part.num_blocks = num_blocks;
  in_flight.num_drafts = num_drafts;
  ClassOf(sequence).share.Charge(sequence.tenant, ServiceCost().prefill * num_drafts);
  metrics_.draft_tokens.Add(num_drafts);
}

// Whether the step that runs, planned before its tokens were known, is to be the last such for now.
void Scheduler::NoteWaitsToDraft() {
  waits_to_draft_ = false;
  if (!SpeculatesNow() || num_steps_ != 1) return;
  waits_to_draft_ = DealDrafts(steps_[0], step_tokens_max_ - steps_[0].num_rows);
}

// The tokens behind its first that a step has drawn for it, as far as its drafts were right.
void Scheduler::CommitDrafts(Sequence& sequence, std::span<const SampledToken> sampled,
                             const StepResult& result) {
  for (const SampledToken& sample : sampled) {
    if (sample.passed_over) return;
    if (sample.undefined) {
      EndWithStep(*sequence.request, UndefinedError(sequence));
      return;
    }
    ++sequence.computed_tokens;
    ++sequence.planned_tokens;
    sequence.charged_tokens = std::max(sequence.charged_tokens, sequence.computed_tokens);
    metrics_.accepted_draft_tokens.Add(1);
    if (sequence.computed_tokens >= sequence.publish_tokens) Publish(sequence);
    if (!DeliverToken(sequence, sample, result)) return;
  }
}

}  // namespace holdfast
