// Who is let in, and who gives way for it.
#include <algorithm>
#include <tuple>
#include <utility>

#include "config/base/check.h"
#include "scheduler/policy/wait_order.h"
#include "scheduler/scheduler.h"

namespace holdfast {
namespace {

// Sequences that a plan preempts at most for one that could not be let in, and how often one may be
// preempted for another tenant: what it had computed is computed again, which nobody gains by.
constexpr int32_t kPreemptedByPlanMax = 4;
constexpr int32_t kTakenBackMax = 2;

// A sequence that is preempted again and again asks for more room each time, up to so many times.
constexpr int32_t kSpareDoublingsMax = 3;

// Who has more than its part of the blocks leaves this part of all for those who may come, so that
// not each of them has to take something back.
constexpr int32_t kLeftForOthers = 16;

// How often a plan ranks sequences again whose prefix has left the cache since they came.
constexpr int32_t kRanksAgainMax = 8;

size_t IndexOf(TenantIndex tenant) { return static_cast<size_t>(Number(tenant)); }

}  // namespace

WaitQueue& Scheduler::QueueOf(const Sequence& sequence) {
  return ClassOf(sequence).queues[IndexOf(sequence.request->request.tenant)];
}

WaitRank Scheduler::RankOf(const Sequence& sequence) const {
  const ActiveRequest& active = *sequence.request;
  const Request& request = active.request;
  if (active.admitted) return {.fresh = false, .priority = request.priority};
  WaitRank rank{.priority = request.priority};
  absl::Time arrived = active.submitted;
  if (active.program != nullptr && programs_.orders_by_program()) {
    rank.level = programs_.RankOf(*active.program, active.arrival, now_ - active.submitted).level;
    arrived = active.program->first_arrived;
  }
  if (!request.session.empty() && programs_.pins()) {
    const Pin* pin = store_.pins().Find(request.tenant, request.session);
    rank.unpinned = pin == nullptr || pin->scope != request.reuse_scope;
  }
  if (options_.order != WaitOrder::kArrival) {
    const int32_t found = active.ReuseOf(sequence) == PrefixReuse::kMatchAndPublish
                              ? store_.FindableTokens(request.reuse_scope, sequence.tokens)
                              : 0;
    rank.score = ScoreOf(options_.order, active.prompt_size, found, arrived, options_.ageing_time);
  }
  return rank;
}

void Scheduler::AddWaiting(Sequence& sequence) {
  sequence.was_kept = false;
  sequence.rank = RankOf(sequence);
  QueueOf(sequence).Add(sequence);
  ClassOf(sequence).share.OnWaiting(sequence.request->request.tenant);
  ++ClassOf(sequence).num_waiting;
  ++num_waiting_;
}

void Scheduler::RemoveWaiting(Sequence& sequence, WaitQueue::Leave why) {
  LetGo(sequence);
  std::erase(head_, &sequence);
  QueueOf(sequence).Remove(sequence, why);
  ClassOf(sequence).share.OnNotWaiting(sequence.request->request.tenant);
  --ClassOf(sequence).num_waiting;
  --num_waiting_;
}

void Scheduler::NoteWait(Sequence& sequence, WaitReason reason) {
  auto& noted = ClassOf(sequence).noted;
  if (sequence.wait_reason_plan == num_plans_) --noted[static_cast<size_t>(sequence.wait_reason)];
  ++noted[static_cast<size_t>(reason)];
  sequence.wait_reason = reason;
  sequence.wait_reason_plan = num_plans_;
}

void Scheduler::Charge(Sequence& sequence, int32_t end, double cost) {
  if (end <= sequence.charged_tokens) return;  // it has been, before a preemption
  ClassOf(sequence).share.Charge(sequence.tenant, cost * (end - sequence.charged_tokens));
  sequence.charged_tokens = end;
}

// Of the tenants with somebody to let in: those that run less than their share of the places before
// the others, else a place would be given out only to be taken back; the one whose next came first
// among equals.
std::optional<TenantIndex> Scheduler::LeastServed(const WaitingClass& from) const {
  std::optional<TenantIndex> least;
  std::tuple<bool, double, SequenceOrder> least_rank;
  for (size_t i = 0; i < from.queues.size(); ++i) {
    if (from.passed[i]) continue;
    const Sequence* next = from.queues[i].Next();
    if (next == nullptr) continue;
    const TenantIndex tenant{static_cast<int32_t>(i)};
    if (num_tenants() == 1) return tenant;
    const std::tuple rank(!IsDue({.tenant = tenant, .order = next->order}, Scarce::kPlaces),
                          from.share.served(tenant), next->order);
    if (least && !(rank < least_rank)) continue;
    least = tenant;
    least_rank = rank;
  }
  return least;
}

// A pin that ended while it waited, or a prefix that was evicted. False: it goes as it is.
bool Scheduler::RankAgain(WaitQueue& queue, Sequence& sequence) {
  if (!sequence.rank.fresh) return false;
  if (sequence.rank.unpinned && options_.order == WaitOrder::kArrival) return false;
  const WaitRank rank = RankOf(sequence);
  if (!(sequence.rank < rank)) return false;
  queue.Rank(sequence, rank);
  return true;
}

void Scheduler::AdmitWaiting(const Chunker& chunker) {
  const std::optional<TenantIndex> way_for = std::exchange(way_for_, std::nullopt);
  if (num_waiting_ == 0) return;
  CountShares();
  const bool all_in = AdmitFrom(online_, chunker, way_for);
  if (all_in) AdmitFrom(offline_, chunker, std::nullopt);
  online_.others_wait = WaitReason::kTurn;
  offline_.others_wait = all_in ? WaitReason::kTurn : WaitReason::kOnline;
}

// Whether the step has a row for it once those before it have theirs.
bool Scheduler::HasRows(const Chunker& chunker, const Sequence& sequence) const {
  Chunker left = chunker;
  const std::tuple rank = RowsRank(sequence);
  for (const Sequence* prefill : prefills_) {
    if (left.left() == 0) break;
    if (RowsRank(*prefill) <= rank) left.Take(prefill->unplanned_tokens(), prefill->order.offline);
  }
  if (left.HasRoom(sequence.num_tokens(), sequence.order.offline)) return true;
  return num_tenants() > 1 && !sequence.order.offline && HasRowsOfItsPart(chunker, sequence);
}

bool Scheduler::HasRowsOfItsPart(const Chunker& chunker, const Sequence& sequence) const {
  if (!chunker.HasRoom(sequence.num_tokens(), false)) return false;
  const TenantIndex tenant = sequence.request->request.tenant;
  int32_t part = rows_.PartLeft(tenant);
  for (const Sequence* prefill : prefills_) {
    if (prefill->request->request.tenant != tenant || prefill->order.offline) continue;
    part -= std::min(prefill->unplanned_tokens(), options_.chunk_tokens_max);
    if (part <= 0) return false;
  }
  return true;
}

bool Scheduler::AdmitFrom(WaitingClass& from, const Chunker& chunker,
                          std::optional<TenantIndex> first) {
  for (WaitQueue& queue : from.queues) queue.Rewind();
  std::fill(from.passed.begin(), from.passed.end(), false);
  int32_t num_prefill_waiters = 0, ranks_again = 0;
  std::optional<int32_t> blocked_available;
  bool all_in = true;
  while (true) {
    std::optional<TenantIndex> tenant = std::exchange(first, std::nullopt);
    if (!tenant || from.queues[IndexOf(*tenant)].Next() == nullptr) tenant = LeastServed(from);
    if (!tenant) break;
    WaitQueue& queue = from.queues[IndexOf(*tenant)];
    Sequence& sequence = *queue.Next();
    const ActiveRequest& request = *sequence.request;
    const auto pass = [&](WaitReason reason) {
      NoteWait(sequence, reason);
      from.passed[IndexOf(*tenant)] = true;
      all_in = false;
    };
    const Admission admission = MayRun(View(), tenants_[*tenant], request.running_choices > 0);
    if (admission == Admission::kWait) {
      pass(WaitReason::kPlaces);
      NoteBlocked(sequence, Scarce::kPlaces);
      if (num_tenants() == 1 || blocked_) break;
      continue;
    }
    if (admission == Admission::kSkip) {
      NoteWait(sequence, WaitReason::kTenantPlaces);
      // Behind who has not run nobody has; before, choices of requests that run may follow.
      if (sequence.rank.fresh) {
        from.passed[IndexOf(*tenant)] = true;
      } else {
        queue.Skip();
      }
      continue;
    }
    // To blocks that are kept for it alone it may go past who waits for others.
    if (blocked_available && store_.available(*tenant) <= *blocked_available) {
      pass(WaitReason::kBlocks);
      NoteBlocked(sequence, Scarce::kBlocks);
      continue;
    }
    if (ranks_again < kRanksAgainMax && RankAgain(queue, sequence)) {
      ++ranks_again;
      continue;
    }
    if (WaitsForPrefill(sequence)) {
      ++num_prefill_waiters;
      NoteWait(sequence, WaitReason::kPrefill);
      queue.Skip();
      continue;
    }
    if (WaitsForLookup(sequence)) {
      NoteWait(sequence, WaitReason::kLookup);
      queue.Skip();
      continue;
    }
    if (!HasRows(chunker, sequence)) {
      pass(WaitReason::kStepRows);
      continue;
    }
    bool started = TryStart(sequence);
    // What is kept for others is theirs who come before them, and anybody's when nothing runs.
    const bool nothing_runs = running_.empty();
    const bool goes_first = !sequence.order.offline && !blocked_available;
    while (!started && (nothing_runs || goes_first) &&
           LetGoBehind(nothing_runs ? nullptr : &sequence)) {
      started = TryStart(sequence);
    }
    // When nothing runs or moves, pins are what it lacks room for.
    while (!started && running_.empty() && store_.num_moves() == 0 && store_.ForceLeastPin(now_)) {
      started = TryStart(sequence);
    }
    if (!started) {
      pass(WaitReason::kBlocks);
      NoteBlocked(sequence, Scarce::kBlocks);
      if (!blocked_available) blocked_available = store_.available(*tenant);
      continue;
    }
    if (num_tenants() > 1 && !sequence.order.offline) ++shares_.places[IndexOf(*tenant)];
    if (!sequence.restoring) prefills_.push_back(&sequence);
  }
  num_prefill_waiters_ = num_prefill_waiters;
  return all_in;
}

// The first in the order of service whose tenant should have what it lacks.
void Scheduler::NoteBlocked(const Sequence& sequence, Scarce what) {
  if (blocked_ || sequence.order.offline) return;
  const Blocked blocked{.tenant = sequence.request->request.tenant,
                        .order = sequence.order,
                        .blocks = what == Scarce::kPlaces ? 0 : BlocksFor(sequence.num_tokens())};
  if (OfflineRuns() || IsDue(blocked, what)) blocked_ = blocked;
}

// Of the blocks, had everybody who is there now and then his part.
bool Scheduler::HasMoreThanItsPart(const Sequence& sequence) const {
  const TenantIndex tenant = sequence.request->request.tenant;
  const double own = online_.share.weight(tenant);
  double weight = own;
  for (int32_t i = 0; i < num_tenants(); ++i) {
    const TenantIndex other{i};
    if (other != tenant && pace_.IsThere(other, now_)) weight += online_.share.weight(other);
  }
  if (weight == own) return false;  // nobody else is there
  const double part = store_.capacity() * own / weight;
  return HeldBlocks(tenant) + BlocksFor(sequence.num_tokens()) > part;
}

int32_t Scheduler::SpareBlocksFor(const Sequence& sequence) const {
  int32_t spare = SpareBlocks(num_running())
                  << std::min(sequence.num_preempted, kSpareDoublingsMax);
  if (num_tenants() > 1 && !running_.empty() && HasMoreThanItsPart(sequence)) {
    spare += store_.capacity() / kLeftForOthers;
  }
  return spare;
}

bool Scheduler::TryStart(Sequence& sequence) {
  ActiveRequest& request = *sequence.request;
  const TenantIndex tenant = request.request.tenant;
  const auto hits_before = store_.hit_tokens(tenant);
  PrefixRequest wanted = PrefixOf(sequence);
  wanted.spare_blocks = SpareBlocksFor(sequence);
  if (!sequence.remote.digests.empty()) wanted.remote = &sequence.remote;
  const std::optional<PrefixGrant> grant =
      store_.TryAcquirePrefix(wanted, now_, sequence.blocks, sequence.published);
  if (!grant) return false;
  CHECK(!free_slots_.empty());
  RemoveWaiting(sequence, WaitQueue::Leave::kAdmitted);
  sequence.slot = free_slots_.back();
  free_slots_.pop_back();
  sequence.state = SequenceState::kRunning;
  sequence.hit_tokens = {};
  sequence.publish_tokens = 0;
  sequence.table_version = ++table_versions_;
  sequence.remote = {};
  NoteHeld(sequence);
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &sequence, RunsBefore),
                  &sequence);
  if (request.running_choices++ == 0) CountRunning(tenant, 1);
  if (!request.admitted) {
    request.admitted = true;
    request.times.admitted = now_;
    if (request.program != nullptr) {
      programs_.OnFirstRun(*request.program, now_ - request.submitted, !sequence.rank.unpinned);
    }
    LeaveQueue(request);
    metrics_.Of(tenant).queue_seconds.Observe(
        std::max(0.0, absl::ToDoubleSeconds(now_ - request.submitted)));
  }
  sequence.started = now_;
  if (grant->restoring_blocks > 0) {
    sequence.restoring = true;
    ++num_restoring_;
  } else {
    TakeGrant(sequence, grant->cached_tokens, hits_before);
  }
  return true;
}

int32_t Scheduler::HeldBlocks(TenantIndex tenant) const {
  int32_t held = store_.pins().num_blocks(tenant);
  for (const Sequence* sequence : running_) {
    if (sequence->tenant == tenant) {
      held += static_cast<int32_t>(sequence->blocks.size());
    }
  }
  return held;
}

// Who shares the machine now: the tenants that run, wait or have pins.
void Scheduler::CountShares() {
  if (num_tenants() == 1) return;
  std::fill(shares_.places.begin(), shares_.places.end(), 0);
  for (const Sequence* sequence : running_) {
    if (!sequence->order.offline) ++shares_.places[IndexOf(sequence->tenant)];
  }
  shares_.weight = 0;
  shares_.least_served.reset();
  for (int32_t i = 0; i < num_tenants(); ++i) {
    const TenantIndex tenant{i};
    const bool waits = online_.share.waiting(tenant) > 0;
    if (waits || shares_.places[IndexOf(tenant)] > 0 || store_.pins().num_blocks(tenant) > 0) {
      shares_.weight += online_.share.weight(tenant);
    }
    if (!waits) continue;
    const double served = online_.share.served(tenant);
    shares_.least_served = std::min(shares_.least_served.value_or(served), served);
  }
}

// Way that is made now need not be waited for through a step.
void Scheduler::NoteArrivedBlocked() {
  if (num_tenants() == 1 || num_waiting_ == 0) return;
  const bool no_place = num_running() >= running_max_;
  bool counted = false;
  for (int32_t i = 0; i < num_tenants(); ++i) {
    WaitQueue& queue = online_.queues[static_cast<size_t>(i)];
    queue.Rewind();
    const Sequence* next = queue.Next();
    if (next == nullptr || next->wait_reason_plan > 0) continue;  // some plan has seen it
    const int32_t wanted = BlocksFor(next->num_tokens()) + SpareBlocksFor(*next);
    if (!no_place && store_.available(TenantIndex{i}) >= wanted) continue;
    if (!std::exchange(counted, true)) CountShares();
    NoteBlocked(*next, no_place ? Scarce::kPlaces : Scarce::kBlocks);
  }
}

void Scheduler::MakeWay() {
  if (!blocked_) NoteArrivedBlocked();
  const std::optional<Blocked> blocked = std::exchange(blocked_, std::nullopt);
  if (!blocked) return;
  WaitQueue& queue = online_.queues[IndexOf(blocked->tenant)];
  queue.Rewind();
  const Sequence* next = queue.Next();
  if (next == nullptr || next->order != blocked->order) return;
  CountShares();
  for (int32_t preempted = 0; preempted < kPreemptedByPlanMax;) {
    const bool no_place = num_running() >= running_max_;
    const bool no_room =
        store_.available(blocked->tenant) < blocked->blocks + SpareBlocksFor(*next);
    if (!no_place && !no_room) break;
    if (!no_place && (LetGoBehind(next) || ForcePinFor(*blocked))) continue;
    Sequence* victim = TakenBackFor(*blocked, no_place ? Scarce::kPlaces : Scarce::kBlocks);
    if (victim == nullptr || IsEnding(*victim)) break;
    Preempt(*victim, blocked->tenant);
    CountShares();
    ++preempted;
    way_for_ = blocked->tenant;
  }
}

double Scheduler::FairPart(TenantIndex tenant, Scarce what) const {
  const double all = what == Scarce::kPlaces ? running_max_ : store_.capacity();
  return all * online_.share.weight(tenant) / shares_.weight;
}

int32_t Scheduler::Uses(TenantIndex tenant, Scarce what) const {
  return what == Scarce::kPlaces ? shares_.places[IndexOf(tenant)] : HeldBlocks(tenant);
}

// Within its share of it, and not served too far beyond others who wait: what one of them may be
// ahead by policy/fair_share.h says.
bool Scheduler::IsDue(const Blocked& blocked, Scarce what) const {
  if (num_tenants() == 1) return false;
  const double ahead_max =
      ServiceAheadMax(engine_.context_tokens, int64_t{store_.capacity()} * kBlockTokens) /
      online_.share.weight(blocked.tenant);
  const double served = online_.share.served(blocked.tenant);
  if (served - shares_.least_served.value_or(served) > ahead_max) return false;
  const int32_t wanted = what == Scarce::kPlaces ? 1 : blocked.blocks;
  return Uses(blocked.tenant, what) + wanted <= FairPart(blocked.tenant, what);
}

bool Scheduler::ForcePinFor(const Blocked& blocked) {
  if (!IsDue(blocked, Scarce::kBlocks)) return false;
  for (int32_t i = 0; i < num_tenants(); ++i) {
    const TenantIndex other{i};
    if (other == blocked.tenant || store_.pins().num_blocks(other) == 0) continue;
    if (HeldBlocks(other) <= FairPart(other, Scarce::kBlocks)) continue;
    if (store_.ForceLeastPin(now_, other)) return true;
  }
  return false;
}

Sequence* Scheduler::TakenBackFor(const Blocked& blocked, Scarce what) {
  if (OfflineRuns()) return running_.back();
  if (!IsDue(blocked, what) || !preemptions_.MayTakeBack(blocked.tenant)) return nullptr;
  Sequence* victim = nullptr;
  double most = 0;
  for (int32_t i = 0; i < num_tenants(); ++i) {
    const TenantIndex other{i};
    if (other == blocked.tenant) continue;
    const int32_t uses = Uses(other, what);
    const double by_weight = uses / online_.share.weight(other);
    if (by_weight <= most || uses <= FairPart(other, what)) continue;
    Sequence* latest = LatestOf(other, kTakenBackMax);
    if (latest == nullptr) continue;
    most = by_weight;
    victim = latest;
  }
  return victim;
}

// Never the oldest of all.
Sequence* Scheduler::LatestOf(TenantIndex tenant, int32_t taken_back_max) const {
  for (size_t i = running_.size(); i-- > 1;) {
    Sequence* sequence = running_[i];
    if (sequence->tenant != tenant) continue;
    if (sequence->num_taken_back < taken_back_max) return sequence;
  }
  return nullptr;
}

Sequence& Scheduler::GrowthVictim(const Sequence& grower) const {
  Sequence& latest = *running_.back();
  if (OfflineRuns() || num_tenants() == 1) return latest;
  const TenantIndex own = grower.request->request.tenant;
  Sequence* victim = LatestOf(own);
  double most = HeldBlocks(own) / online_.share.weight(own);
  for (int32_t i = 0; i < num_tenants(); ++i) {
    const TenantIndex other{i};
    if (other == own || !preemptions_.MayTakeBack(own)) continue;
    const double by_weight = HeldBlocks(other) / online_.share.weight(other);
    if (by_weight <= most) continue;
    Sequence* latest_of_other = LatestOf(other);
    if (latest_of_other == nullptr) continue;
    most = by_weight;
    victim = latest_of_other;
  }
  return victim == nullptr ? latest : *victim;
}

}  // namespace holdfast
