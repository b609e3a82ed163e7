// One tenant's waiting sequences, in the order in which they are to be let in:
//
//   who has run before, then by priority, then with a live pin, then by level, score and order
//
// What level and score are is the policies' to say (wait_order.h); order is first come, first
// served, of programs or requests.
//
// Overtaking is bounded: once `bypass_max` that are later in `order` have been let in before a
// sequence that has not run yet, that one is next. It is enough to remember the overtakers of the
// oldest: whoever overtakes a later one overtakes the oldest as well. Who may not be let in for
// reasons of its own (Skip) is passed meanwhile.
//
// Source of bounded overtaking: KVShare (arXiv 2503.16525) orders by cache hits without it; the
// bound is ours.
// Thread: the scheduler's alone.    Bound: the sequences that wait. Calls are O(log n +
// bypass_max).
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "scheduler/sequence.h"

namespace holdfast {

class WaitQueue final {
 public:
  explicit WaitQueue(int32_t bypass_max);  // > 0
  WaitQueue(const WaitQueue&) = delete;    // a walk points into the queue
  WaitQueue& operator=(const WaitQueue&) = delete;

  // By sequence.rank, which may not change while it waits.
  void Add(Sequence& sequence);
  enum class Leave : uint8_t { kAdmitted, kGone };
  void Remove(Sequence& sequence, Leave why);
  // Gives one that waits another rank, equally fresh.
  void Rank(Sequence& sequence, const WaitRank& rank);

  // A walk in order: Rewind, then Next is who is to be let in now until it is removed or skipped.
  // Who is added during a walk may be missed by it.
  void Rewind();
  Sequence* Next() const;  // nullptr: nobody else
  void Skip();             // whom Next gives

  int32_t size() const { return static_cast<int32_t>(by_rank_.size()); }
  // By how many that are later in `order` it was overtaken; 0 of one that has run.
  int32_t NumOvertakers(const Sequence& sequence) const;
  // As a walk without skips would.
  void ForEach(const std::function<void(const Sequence&)>& visit) const;

  void CheckInvariants() const;

 private:
  struct Key {
    WaitRank rank;
    SequenceOrder order;
    auto operator<=>(const Key&) const = default;
  };
  bool AtOverdue() const;  // Next gives one of those
  bool IsOverdue(const SequenceOrder& order) const;
  void ForgetOvertakers();  // of those who wait no more

  const size_t bypass_max_;
  std::map<Key, Sequence*> by_rank_;
  std::map<SequenceOrder, Sequence*> fresh_;  // those that have not run yet
  std::vector<SequenceOrder> overtakers_;     // ascending, all later than the oldest of fresh_
  std::map<Key, Sequence*>::iterator next_;
  std::map<SequenceOrder, Sequence*>::iterator next_overdue_;
};

}  // namespace holdfast
