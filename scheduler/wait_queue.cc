#include "scheduler/wait_queue.h"

#include <algorithm>
#include <iterator>

#include "config/base/check.h"

namespace holdfast {

WaitQueue::WaitQueue(int32_t bypass_max) : bypass_max_(static_cast<size_t>(bypass_max)) {
  CHECK(bypass_max > 0);
  overtakers_.reserve(bypass_max_);
  Rewind();
}

void WaitQueue::Add(Sequence& sequence) {
  CHECK(by_rank_.emplace(Key{sequence.rank, sequence.order}, &sequence).second);
  if (sequence.rank.fresh) fresh_.emplace(sequence.order, &sequence);
}

void WaitQueue::Remove(Sequence& sequence, Leave why) {
  const auto ranked = by_rank_.find(Key{sequence.rank, sequence.order});
  CHECK(ranked != by_rank_.end() && ranked->second == &sequence);
  if (next_ == ranked) ++next_;
  by_rank_.erase(ranked);
  if (!sequence.rank.fresh) return;
  const auto fresh = fresh_.find(sequence.order);
  CHECK(fresh != fresh_.end());
  if (next_overdue_ == fresh) ++next_overdue_;
  fresh_.erase(fresh);
  if (why == Leave::kAdmitted) {
    overtakers_.insert(std::upper_bound(overtakers_.begin(), overtakers_.end(), sequence.order),
                       sequence.order);
  }
  ForgetOvertakers();
}

void WaitQueue::Rank(Sequence& sequence, const WaitRank& rank) {
  CHECK(rank.fresh == sequence.rank.fresh);
  const auto ranked = by_rank_.find(Key{sequence.rank, sequence.order});
  CHECK(ranked != by_rank_.end());
  if (next_ == ranked) ++next_;
  by_rank_.erase(ranked);
  sequence.rank = rank;
  const auto added = by_rank_.emplace(Key{rank, sequence.order}, &sequence).first;
  // A walk that would have come to it still does.
  if (next_ == std::next(added)) next_ = added;
}

void WaitQueue::ForgetOvertakers() {
  const auto end = fresh_.empty() ? overtakers_.end()
                                  : std::upper_bound(overtakers_.begin(), overtakers_.end(),
                                                     fresh_.begin()->first);
  overtakers_.erase(overtakers_.begin(), end);
}

bool WaitQueue::IsOverdue(const SequenceOrder& order) const {
  if (overtakers_.size() < bypass_max_) return false;
  return !(*(overtakers_.end() - static_cast<std::ptrdiff_t>(bypass_max_)) < order);
}

void WaitQueue::Rewind() {
  next_ = by_rank_.begin();
  next_overdue_ = fresh_.begin();
}

bool WaitQueue::AtOverdue() const {
  const bool has_run = next_ != by_rank_.end() && !next_->first.rank.fresh;
  return !has_run && next_overdue_ != fresh_.end() && IsOverdue(next_overdue_->first);
}

Sequence* WaitQueue::Next() const {
  if (AtOverdue()) return next_overdue_->second;
  return next_ == by_rank_.end() ? nullptr : next_->second;
}

void WaitQueue::Skip() {
  if (AtOverdue()) {
    ++next_overdue_;
  } else {
    CHECK(next_ != by_rank_.end());
    ++next_;
  }
}

void WaitQueue::ForEach(const std::function<void(const Sequence&)>& visit) const {
  auto next = by_rank_.begin();
  for (; next != by_rank_.end() && !next->first.rank.fresh; ++next) visit(*next->second);
  for (const auto& [order, sequence] : fresh_) {
    if (!IsOverdue(order)) break;  // nor is who came later
    visit(*sequence);
  }
  for (; next != by_rank_.end(); ++next) {
    if (!IsOverdue(next->first.order)) visit(*next->second);
  }
}

int32_t WaitQueue::NumOvertakers(const Sequence& sequence) const {
  if (!sequence.rank.fresh) return 0;
  return static_cast<int32_t>(
      overtakers_.end() - std::upper_bound(overtakers_.begin(), overtakers_.end(), sequence.order));
}

void WaitQueue::CheckInvariants() const {
  size_t num_fresh = 0;
  for (const auto& [key, sequence] : by_rank_) {
    CHECK(sequence->state == SequenceState::kWaiting && sequence->blocks.empty());
    CHECK(!sequence->restoring && !sequence->opened);
    CHECK(key.rank == sequence->rank && key.order == sequence->order);
    if (key.rank.fresh) ++num_fresh;
  }
  CHECK(num_fresh == fresh_.size());
  CHECK(std::is_sorted(overtakers_.begin(), overtakers_.end()));
  CHECK(overtakers_.empty() || (!fresh_.empty() && fresh_.begin()->first < overtakers_.front()));
}

}  // namespace holdfast
