// How a step is planned: who has got back what it found, who grows, who is let in.
#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "config/base/check.h"
#include "config/base/prefetch.h"
#include "scheduler/kept_tables.h"
#include "scheduler/scheduler.h"

namespace holdfast {
namespace {

// How many waiting sequences a Plan asks again whether their prefix is still being computed; each
// answer is a walk along the prefix. With more of them each is asked in every so many plans.
constexpr int32_t kPrefillQuestionsMax = 16;

// A short request that wants its part of a full pool may cost another a long context.
constexpr int32_t kRecomputedPerServed = 16;

// A prompt of a tenant that is owed rows is not cut for the sake of so small a part of the step:
// its rest would wait for another whole step.
constexpr int32_t kRestOfStep = 2;

}  // namespace

bool Scheduler::may_plan() const {
  if (num_steps_ == 0) return true;
  return num_steps_ < kStepsMax && !steps_[0].ahead && steps_[0].drafts == 0 && !waits_to_draft_;
}

absl::Time Scheduler::StepEndsAt() const {
  if (num_steps_ != 1) return absl::InfiniteFuture();
  const std::optional<absl::Duration> lasts = forecast_.Of(steps_[0].work);
  return lasts ? steps_[0].begun + *lasts : absl::InfiniteFuture();
}

// What a step that runs has planned already, or will end with, gets none.
bool Scheduler::WantsRows(const Sequence& sequence) const {
  if (sequence.restoring || sequence.unplanned_tokens() == 0) return false;
  if (sequence.num_steps == 0) return true;
  if (IsEnding(sequence)) return false;
  return sequence.undelivered == 0 || !EndsByLength(sequence, engine_.context_tokens);
}

bool Scheduler::HasBlocks(const Sequence& sequence) {
  return BlocksFor(sequence.length()) <= static_cast<int32_t>(sequence.blocks.size());
}

bool Scheduler::Plan(absl::Time now, StepPlan& plan) {
  thread_.CheckThread();
  now_ = now;
  CHECK(may_plan());
  BeginKeeping(plan, running_max_);
  planned().parts.clear();
  planned().num_samples = planned().drafts = 0;
  planned().ahead = false;
  ++num_plans_;
  store_.ExpirePins(now);
  programs_.ForgetIdle(now);
  ContinueRestored();
  MakeWay();
  const int32_t running_before = num_running();
  growing_.clear();
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* const sequence = running_[i];
    if (i + kPrefetchRounds < running_.size()) {
      Prefetch(running_[i + kPrefetchRounds], kSequenceStepBytes);
    }
    if (WantsRows(*sequence) && !HasBlocks(*sequence)) growing_.push_back(sequence);
  }
  // All growth before the first row: whoever is preempted by it has none yet.
  for (Sequence* sequence : growing_) {
    if (sequence->state == SequenceState::kRunning) Grow(*sequence);
  }
  const bool preempted = num_running() < running_before;
  // Each that decodes has a row; the pace is for what prefills get.
  const int32_t step_rows =
      num_tenants() == 1 ? step_tokens_max_
                         : std::min(step_tokens_max_, num_running() + pace_.PrefillRowsMax(now));
  more_rows_ = std::min(step_rows / kRestOfStep, step_tokens_max_ - step_rows);
  Chunker chunker({.step = step_rows,
                   .chunk = options_.chunk_tokens_max,
                   .long_prefill = options_.long_prefill_tokens_max,
                   .offline = options_.offline_step_tokens_max});
  rows_.Begin(step_rows);
  CountDecodes(chunker);
  for (WaitingClass* waiting : {&online_, &offline_}) {
    waiting->noted.fill(0);
    waiting->others_wait = WaitReason::kBlocks;
  }
  if (!preempted) AdmitWaiting(chunker);
  KeepForHead();
  PlanDecodes(plan);
  PlanPrefills(chunker, plan);
  RunAhead(chunker, plan);
  planned().work = WorkOf(plan);  // without drafts, which are counted apart
  AddDrafts(chunker, plan);
  store_.PlanMoves(now);

  SortMoves();

  planned().num_rows = static_cast<int32_t>(plan.tokens.size());
  planned().begun = now;
  const bool has_rows = !planned().parts.empty();
  if (has_rows) ++num_steps_;
  PublishCounts();
  PublishWaitReasons();
  // Someone can always run, now or when what moves has arrived.
  CHECK(step_running() || idle() || store_.num_moves() > 0 || num_lookups() > 0);
  return has_rows;
}

void Scheduler::SortMoves() {
  new_moves_.clear();
  store_.TakeMoves(new_moves_);
  for (MoveJob& job : new_moves_) {
    const bool waits = step_running() && job.kind == MoveKind::kRestore;
    (waits ? held_moves_ : ready_moves_).push_back(std::move(job));
  }
}

void Scheduler::ReleaseMoves() {
  std::move(held_moves_.begin(), held_moves_.end(), std::back_inserter(ready_moves_));
  held_moves_.clear();
}

void Scheduler::TakeAllMoves(std::vector<MoveJob>& jobs) {
  ReleaseMoves();
  TakeMoves(jobs);
}

void Scheduler::TakeMoves(std::vector<MoveJob>& jobs) {
  thread_.CheckThread();
  store_.TakeMoves(ready_moves_);
  std::move(ready_moves_.begin(), ready_moves_.end(), std::back_inserter(jobs));
  ready_moves_.clear();
}

void Scheduler::OnMoveDone(const MoveDone& done, absl::Time now) {
  thread_.CheckThread();
  now_ = now;
  store_.OnMoveDone(done, now);
}

PrefixRequest Scheduler::PrefixOf(const Sequence& sequence) const {
  const ActiveRequest& request = *sequence.request;
  return {.scope = request.request.reuse_scope,
          .tokens = sequence.tokens,
          .reuse = request.ReuseOf(sequence),
          .tenant = request.request.tenant,
          .num_blocks = BlocksFor(sequence.num_tokens())};
}

void Scheduler::ContinueRestored() {
  for (size_t i = 0; num_restoring_ > 0 && i < running_.size();) {
    Sequence& sequence = *running_[i];
    if (!sequence.restoring) {
      ++i;
      continue;
    }
    if (Poll(sequence) == RestorePoll::State::kNoRoom) {
      SendBack(sequence);  // takes it out of running_
    } else {
      ++i;
    }
  }
}

RestorePoll::State Scheduler::Poll(Sequence& sequence) {
  const auto hits_before = store_.hit_tokens(sequence.request->request.tenant);
  const RestorePoll poll =
      store_.PollRestore(PrefixOf(sequence), now_, sequence.blocks, sequence.published);
  sequence.gate = poll.gate;
  sequence.table_version = ++table_versions_;  // it may have been cut
  if (poll.state == RestorePoll::State::kReady) {
    sequence.restoring = false;
    --num_restoring_;
    StageTimes& times = sequence.request->times;
    if (sequence.started == times.admitted && times.restored == absl::InfinitePast()) {
      times.restored = now_;
    }
    const auto bytes = static_cast<int64_t>(engine_.kv_layout.block_bytes()) * poll.cached_tokens;
    reload_.OnRestored(bytes / kBlockTokens, now_ - sequence.started);
    TakeGrant(sequence, poll.cached_tokens, hits_before);
  }
  return poll.state;
}

// One that cannot grow keeps what it has and gets no row, or is preempted.
void Scheduler::Grow(Sequence& sequence) {
  const TenantIndex tenant = sequence.request->request.tenant;
  const int32_t missing =
      BlocksFor(sequence.length()) - static_cast<int32_t>(sequence.blocks.size());
  if (missing <= 0) return;
  while (!store_.TryAcquire(missing, tenant, now_, sequence.blocks)) {
    if (LetGoBehind(nullptr) || store_.ForceLeastPin(now_)) continue;
    Sequence& victim = GrowthVictim(sequence);
    if (IsEnding(victim)) return;  // what it has comes back with the step that runs
    const bool itself = &victim == &sequence;
    // What it needs may be in the mover's hands: better wait than lose what it has.
    if (itself && store_.num_moves() > 0) return;
    Preempt(victim, tenant);
    if (itself) return;
  }
  NoteHeld(sequence);
}

// Who goes on in this step: a row for each that is past its prompt; the rest of the step is for
// prefills, and for who has several tokens to compute because they were forced.
void Scheduler::CountDecodes(Chunker& chunker) {
  prefills_.clear();
  decodes_.clear();
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* const sequence = running_[i];
    if (i + kPrefetchRounds < running_.size()) {
      Prefetch(running_[i + kPrefetchRounds], kSequenceStepBytes);
    }
    if (!WantsRows(*sequence) || !HasBlocks(*sequence)) continue;
    const bool has_one = sequence->unplanned_tokens() == 1;
    const bool offline = sequence->order.offline;  // it gets what is left
    (has_one && !offline ? decodes_ : prefills_).push_back(sequence);
    if (offline || (!has_one && sequence->num_untold == 0)) continue;
    chunker.TakeDecode();
    rows_.AddDecode(sequence->tenant);
  }
}

// A tenant that is owed rows has its prompt computed without the decodes of those who have been
// served more: the step is as short as on a machine of its own, and they go on with the next one.
// None makes room twice in a row, so that a flood of short prompts holds up nobody's tokens for
// longer.
void Scheduler::PlanDecodes(StepPlan& plan) {
  const std::optional<TenantIndex> owed = num_tenants() > 1 ? OwedPromptsTenant() : std::nullopt;
  const double served = owed ? online_.share.served(*owed) : 0;  // before rows of this step
  for (size_t i = 0; i < decodes_.size(); ++i) {
    Sequence* const sequence = decodes_[i];
    if (i + kPrefetchRounds < decodes_.size()) {
      Prefetch(decodes_[i + kPrefetchRounds], kSequenceStepBytes);
    }
    const bool owes =
        owed && sequence->tenant != *owed && online_.share.served(sequence->tenant) > served;
    if (owes && sequence->withheld_plan + 1 != num_plans_) {
      sequence->withheld_plan = num_plans_;
      continue;
    }
    Open(*sequence, plan);
    AddRows(*sequence, 1, plan);
  }
}

// The least served of those with an online prompt in this step and rows owed to them.
std::optional<TenantIndex> Scheduler::OwedPromptsTenant() const {
  std::optional<TenantIndex> owed;
  for (const Sequence* prefill : prefills_) {
    if (prefill->order.offline || prefill->num_untold > 0) continue;
    if (!rows_.IsOwed(prefill->tenant)) continue;
    if (owed && online_.share.served(*owed) <= online_.share.served(prefill->tenant)) continue;
    owed = prefill->tenant;
  }
  return owed;
}

// Of those that ran and those just let in; and what is left, to offline sequences.
void Scheduler::PlanPrefills(Chunker& chunker, StepPlan& plan) {
  // Those of a tenant stay in order; std::stable_sort would allocate.
  if (num_tenants() > 1 || OfflineRuns()) {
    for (size_t i = 0; i < prefills_.size(); ++i) {
      prefills_[i]->plan_place = static_cast<int32_t>(i);
    }
    std::sort(prefills_.begin(), prefills_.end(), [this](const Sequence* a, const Sequence* b) {
      return std::pair(RowsRank(*a), a->plan_place) < std::pair(RowsRank(*b), b->plan_place);
    });
  }
  prefill_rows_.clear();
  for (const Sequence* prefill : prefills_) {  // as CountDecodes has taken them
    prefill_rows_.push_back(!prefill->order.offline && prefill->num_untold > 0 ? 1 : 0);
  }
  if (num_tenants() > 1) DealParts(chunker);
  for (size_t i = 0; i < prefills_.size(); ++i) {
    Sequence& sequence = *prefills_[i];
    const bool offline = sequence.order.offline;
    const int32_t more = chunker.Take(sequence.unplanned_tokens(), offline, prefill_rows_[i]);
    prefill_rows_[i] += more;
    if (!offline) rows_.Take(sequence.request->request.tenant, more);
    if (prefill_rows_[i] == 0) continue;
    Open(sequence, plan);  // which may find some more of its prompt
    AddRows(sequence, std::min(prefill_rows_[i], sequence.unplanned_tokens()), plan);
  }
}

// To each tenant's online prefills its part of the step, before anybody gets more.
void Scheduler::DealParts(Chunker& chunker) {
  for (const Sequence* sequence : prefills_) {
    if (!sequence->order.offline) rows_.AddPrefill(sequence->request->request.tenant);
  }
  if (rows_.num_present() > 1) chunker.BesideOthers();
  const double place_per_row = rows_.num_present() > 1 ? reload_.PlacePerRow() : 0;
  std::optional<TenantIndex> cut;  // behind whose prompt its others stay
  for (size_t i = 0; i < prefills_.size(); ++i) {
    const Sequence& sequence = *prefills_[i];
    if (sequence.order.offline) break;
    const TenantIndex tenant = sequence.request->request.tenant;
    const int32_t part = rows_.PartLeft(tenant);
    if (part == 0) continue;
    // Deep in a long prompt a row costs more, of which others must not pay.
    const double cost = 1 + place_per_row * sequence.planned_tokens;
    const auto most = std::max(1, static_cast<int32_t>(part / cost));
    const int32_t reserved = prefill_rows_[i];
    prefill_rows_[i] += chunker.Take(sequence.unplanned_tokens(), false, reserved, most);
    if (prefill_rows_[i] < sequence.unplanned_tokens() && cut != tenant) {
      prefill_rows_[i] += RowsNotToCut(sequence, prefill_rows_[i], most, chunker);
    }
    if (prefill_rows_[i] < sequence.unplanned_tokens()) cut = tenant;
    const int32_t rows = prefill_rows_[i] - reserved;
    const int32_t part_rest = std::max(part - rows, 0);
    const auto more = static_cast<int32_t>(std::min<double>((cost - 1) * rows, part_rest));
    rows_.Take(tenant, rows + more);
    if (rows_.num_present() > 1) chunker.Withhold(more);
  }
}

// Beyond the step's, if with few of them it ends a prompt of a tenant that has saved them.
int32_t Scheduler::RowsNotToCut(const Sequence& sequence, int32_t taken, int32_t most,
                                Chunker& chunker) {
  const int32_t rest = sequence.unplanned_tokens() - taken;
  if (rest > more_rows_ || sequence.unplanned_tokens() > most) return 0;
  if (!rows_.IsOwed(sequence.request->request.tenant)) return 0;
  more_rows_ -= rest;
  chunker.Add(rest);
  return chunker.Take(sequence.unplanned_tokens(), false, taken);
}

std::tuple<bool, bool, double> Scheduler::RowsRank(const Sequence& sequence) const {
  const TenantIndex tenant = sequence.request->request.tenant;
  return {sequence.order.offline, !rows_.IsOwed(tenant), online_.share.served(tenant)};
}

// Whoever is being waited for runs: the store knows only those who hold blocks.
bool Scheduler::WaitsForPrefill(Sequence& sequence) {
  const ActiveRequest& request = *sequence.request;
  if (store_.num_computing() == 0) return false;
  if (request.ReuseOf(sequence) != PrefixReuse::kMatchAndPublish) return false;
  if (num_plans_ < sequence.ask_again_plan) return true;
  if (!store_.IsBeingComputed(request.request.reuse_scope, sequence.tokens)) return false;
  sequence.ask_again_plan =
      num_plans_ + 1 + static_cast<uint64_t>(num_prefill_waiters_ / kPrefillQuestionsMax);
  return true;
}

// Whether it must wait for the answer, or asks now; each sequence asks once, when it could run.
bool Scheduler::WaitsForLookup(Sequence& sequence) {
  const ActiveRequest& request = *sequence.request;
  if (sequence.lookup == LookupState::kAsked) {
    if (now_ < sequence.lookup_until) return true;
    sequence.lookup = LookupState::kOver;  // the answer will find it so
  }
  if (sequence.lookup == LookupState::kOver) return false;
  sequence.lookup = LookupState::kOver;
  if (request.ReuseOf(sequence) != PrefixReuse::kMatchAndPublish) return false;
  if (num_lookups() >= kLookupsMax || !store_.remote_usable()) return false;
  std::optional<KvStore::Lookup> lookup =
      store_.MakeLookup(request.request.reuse_scope, sequence.tokens);
  if (!lookup) return false;
  lookup->ask.id = LookupId{next_lookup_++};
  lookups_.emplace(lookup->ask.id,
                   Asked{.request = request.request.id, .choice = sequence.order.choice});
  new_lookups_.push_back(std::move(lookup->ask));
  sequence.lookup = LookupState::kAsked;
  sequence.lookup_until = now_ + options_.lookup_wait;
  sequence.remote.first_block = lookup->first_block;
  return true;
}

void Scheduler::TakeLookups(std::vector<RemoteLookup>& lookups) {
  thread_.CheckThread();
  for (RemoteLookup& lookup : new_lookups_) lookups.push_back(std::move(lookup));
  new_lookups_.clear();
}

void Scheduler::OnRemoteFound(RemoteFound&& found) {
  thread_.CheckThread();
  const auto asked = lookups_.find(found.id);
  CHECK(asked != lookups_.end());
  const auto request = requests_.find(asked->second.request);
  const auto choice = static_cast<size_t>(asked->second.choice);
  lookups_.erase(asked);
  Sequence* sequence = request == requests_.end() ? nullptr : &request->second->choices[choice];
  if (sequence == nullptr || sequence->lookup != LookupState::kAsked) {
    metrics_.kv.CountLookup(KvMetrics::Lookup::kLate);
    return;
  }
  metrics_.kv.CountLookup(!found.status.ok()      ? KvMetrics::Lookup::kFailed
                          : found.digests.empty() ? KvMetrics::Lookup::kNothing
                                                  : KvMetrics::Lookup::kFound);
  sequence->lookup = LookupState::kOver;
  sequence->remote.digests = std::move(found.digests);
}

void Scheduler::RunAhead(Chunker& chunker, StepPlan& plan) {
  // Beside another step there might be need to take back what it has lent.
  if (num_restoring_ == 0 || step_running()) return;
  for (Sequence* sequence : running_) {
    const LayerGate* gate = sequence->gate;
    if (gate == nullptr) continue;
    if (chunker.left() == 0) break;
    if (gate->num_open() < (planned().parts.empty() ? 1 : gate->num_half())) continue;
    const int32_t found_tokens = sequence->published.num_blocks * kBlockTokens;
    const bool offline = sequence->order.offline;
    if (!chunker.HasRoom(sequence->num_tokens() - found_tokens, offline)) continue;
    sequence->computed_tokens = sequence->planned_tokens = found_tokens;
    Open(*sequence, plan);
    AddRows(*sequence, chunker.Take(sequence->unplanned_tokens(), offline), plan);
    plan.sequences.back().gate = gate;
    planned().parts.back().ahead = planned().ahead = true;
    metrics_.run_ahead.Add();
  }
}

void Scheduler::TakeGrant(Sequence& sequence, int32_t cached_tokens,
                          const TierTokens& hits_before) {
  sequence.computed_tokens = sequence.planned_tokens = cached_tokens;
  Charge(sequence, cached_tokens, ServiceCost().cached);
  const auto& hits = store_.hit_tokens(sequence.request->request.tenant);
  for (size_t tier = 0; tier < kNumTiers; ++tier) {
    sequence.hit_tokens[tier] += hits[tier] - hits_before[tier];
  }
}

// Before its first rows, in the plan that has them.
void Scheduler::Open(Sequence& sequence, StepPlan& plan) {
  if (sequence.opened) return;
  sequence.opened = true;
  ContinuePartial(sequence, plan);
  FillOpen(sequence, plan.opens.emplace_back());
  if (!sequence.restoring) NoteFound(sequence);
}

// Once it is certain that computing goes on from what was found.
void Scheduler::NoteFound(Sequence& sequence) {
  ActiveRequest& request = *sequence.request;
  if (sequence.preempted_tokens > sequence.computed_tokens) {
    const int32_t recomputed = sequence.preempted_tokens - sequence.computed_tokens;
    metrics_.recomputed_tokens.Add(recomputed);
    if (sequence.taken_back_for) preemptions_.OnRecomputed(*sequence.taken_back_for, recomputed);
  }
  sequence.preempted_tokens = 0;
  sequence.taken_back_for.reset();
  if (!request.cached_tokens) {
    request.cached_tokens = sequence.computed_tokens;
    request.hit_tokens = sequence.hit_tokens;
  }
}

void Scheduler::ContinuePartial(Sequence& sequence, StepPlan& plan) {
  const PrefixRequest wanted = PrefixOf(sequence);
  if (wanted.reuse != PrefixReuse::kMatchAndPublish) return;
  const TenantIndex tenant = sequence.request->request.tenant;
  const std::optional<PartialBlock> partial =
      sequence.order.choice > 0 ? SiblingsPartial(sequence) : SessionsPartial(sequence);
  if (!partial) return;
  const auto hits_before = store_.hit_tokens(tenant);
  PrefixGrant grant{.cached_tokens = sequence.computed_tokens};
  const std::optional<BlockCopy> copy =
      store_.CopyPartial(*partial, wanted, sequence.blocks, sequence.published, grant);
  if (!copy) return;
  plan.copies.push_back(*copy);
  TakeGrant(sequence, grant.cached_tokens, hits_before);
}

std::optional<PartialBlock> Scheduler::SessionsPartial(Sequence& sequence) const {
  const Request& request = sequence.request->request;
  if (request.session.empty()) return std::nullopt;
  const Pin* pin = store_.pins().Find(request.tenant, request.session);
  if (pin == nullptr || pin->scope != request.reuse_scope) return std::nullopt;
  // It goes with the Commit, not now: until then the copy's source must not be lent again.
  sequence.continued_pin = pin->id;
  sequence.continues_pin = true;
  return store_.PinnedPartial(request.tenant, request.session);
}

// The block after what `sequence` found, as far as another choice has computed it. The same block
// before it means the same tokens up to there.
std::optional<PartialBlock> Scheduler::SiblingsPartial(const Sequence& sequence) const {
  const auto index = static_cast<size_t>(sequence.published.num_blocks);
  const auto begin = static_cast<int32_t>(index) * kBlockTokens;
  for (const Sequence& other : sequence.request->choices) {
    if (&other == &sequence || !other.opened || other.restoring) continue;
    if (other.computed_tokens <= begin) continue;
    if (index > 0 && other.blocks[index - 1] != sequence.blocks[index - 1]) continue;
    const int32_t count = std::min(other.computed_tokens - begin, kBlockTokens - 1);
    return PartialBlock{
        .scope = sequence.request->request.reuse_scope,
        .parent = sequence.published.node,
        .block = other.blocks[index],
        .tokens = std::span(other.tokens)
                      .subspan(static_cast<size_t>(begin), static_cast<size_t>(count))};
  }
  return std::nullopt;
}

void Scheduler::AddRows(Sequence& sequence, int32_t num_tokens, StepPlan& plan) {
  CHECK(num_tokens > 0);
  const int32_t first = sequence.planned_tokens;
  const int32_t end = first + num_tokens;
  const int32_t num_blocks = BlocksFor(end);
  CHECK(static_cast<size_t>(num_blocks) <= sequence.blocks.size());

  PlanSequence& part = plan.sequences.emplace_back();
  part.slot = sequence.slot;
  part.first_position = first;
  part.tokens_begin = static_cast<int32_t>(plan.tokens.size());
  part.num_tokens = num_tokens;
  part.blocks_begin =
      KeepTable(plan, sequence.slot, sequence.table_version, sequence.blocks, num_blocks);
  part.num_blocks = num_blocks;
  part.samples = end == sequence.length() && sequence.max_tokens > 0;
  int32_t num_scored = 0;
  if (sequence.scores_prompt && sequence.request->WantsPromptLogprobs(sequence)) {
    part.prompt_top_logprobs = sequence.request->request.prompt_top_logprobs;
    if (end < sequence.num_tokens()) part.next_token = sequence.tokens[static_cast<size_t>(end)];
    // Each row but the prompt's last has a next prompt token.
    num_scored = num_tokens - (part.next_token ? 0 : 1);
  }
  if (sequence.pooling != Pooling::kNone) {
    part.pooling = sequence.pooling;
    part.pools = end == sequence.num_tokens();
  }
  if (first == sequence.num_tokens()) {
    CHECK(num_tokens == 1 && sequence.undelivered == 1);
    part.draw = sequence.draw_index;
    plan.tokens.push_back(0);
  } else if (num_tokens == 1 && sequence.num_completion > 0 && end == sequence.num_tokens()) {
    plan.tokens.push_back(sequence.last_drawn);
  } else {
    plan.tokens.insert(plan.tokens.end(), sequence.tokens.begin() + first,
                       sequence.tokens.begin() + end);
  }
  if (sequence.num_untold > 0) {
    const int32_t left = std::min(sequence.num_untold, sequence.num_tokens() - end);
    part.num_forced = sequence.num_untold - left;
    sequence.num_untold = left;
  }
  sequence.planned_tokens = end;
  preemptions_.OnServed(sequence.tenant, num_tokens * kRecomputedPerServed);
  if (!sequence.order.offline) pace_.OnRows(sequence.tenant, now_);
  const bool decodes = num_tokens == 1 && part.samples;
  Charge(sequence, end, decodes ? ServiceCost().decode : ServiceCost().prefill);
  ++sequence.num_steps;
  if (part.samples && sequence.masked) {
    part.mask = sequence.mask.get();
    plan.masked.push_back({.mask = sequence.mask,
                           .draw = sequence.num_completion + sequence.undelivered,
                           .sequence = static_cast<int32_t>(plan.sequences.size()) - 1});
  }
  if (part.samples) {
    ++sequence.undelivered;
    sequence.draw_index = planned().num_samples++;
  }
  planned().parts.push_back({.sequence = &sequence,
                             .num_tokens = num_tokens,
                             .samples = part.samples,
                             .tenant = sequence.tenant,
                             .num_scored = num_scored,
                             .pools = part.pools});
}

}  // namespace holdfast
