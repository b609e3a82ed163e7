// The order in which a tenant's sequences are let in, and that nobody is overtaken for ever.
#include "scheduler/wait_queue.h"

#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/sim/seed_note.h"

namespace holdfast {
namespace {

Sequence Waiting(uint64_t arrival, WaitRank rank = {}) {
  Sequence sequence;
  sequence.state = SequenceState::kWaiting;
  sequence.order = {.arrival = arrival, .request = arrival};
  sequence.rank = rank;
  return sequence;
}

std::vector<uint64_t> Admitted(WaitQueue& queue) {
  std::vector<uint64_t> order;
  queue.Rewind();
  while (Sequence* next = queue.Next()) {
    order.push_back(next->order.arrival);
    queue.Remove(*next, WaitQueue::Leave::kAdmitted);
    queue.CheckInvariants();
  }
  return order;
}

TEST(WaitQueueTest, GoesByWhetherItHasRunThenPriorityThenPinThenLevelThenScoreThenArrival) {
  WaitQueue queue(100);
  std::vector<Sequence> waiting;
  waiting.push_back(Waiting(1, {.score = 5}));
  waiting.push_back(Waiting(2, {.score = 5}));
  waiting.push_back(Waiting(3, {.score = 4}));
  waiting.push_back(Waiting(4, {.level = -1, .score = 9}));
  waiting.push_back(Waiting(5, {.unpinned = false, .level = 3}));
  waiting.push_back(Waiting(6, {.priority = -1, .score = 9}));
  waiting.push_back(Waiting(7, {.fresh = false, .priority = 9, .score = 9}));
  for (Sequence& sequence : waiting) queue.Add(sequence);
  const std::vector<uint64_t> expected = {7, 6, 5, 4, 3, 1, 2};
  EXPECT_EQ(Admitted(queue), expected);
}

TEST(WaitQueueTest, WhoHasBeenOvertakenOftenEnoughIsNext) {
  WaitQueue queue(2);
  std::vector<Sequence> waiting;
  waiting.push_back(Waiting(1, {.score = 9}));
  for (uint64_t arrival = 2; arrival <= 6; ++arrival) waiting.push_back(Waiting(arrival));
  waiting.push_back(Waiting(7, {.fresh = false}));
  for (Sequence& sequence : waiting) queue.Add(sequence);
  const std::vector<uint64_t> expected = {7, 2, 3, 1, 4, 5, 6};
  EXPECT_EQ(Admitted(queue), expected);
}

TEST(WaitQueueTest, ItIsListedAsItWillBeLetInAndSaysWhoWasOvertakenHowOften) {
  WaitQueue queue(2);
  std::vector<Sequence> waiting;
  waiting.push_back(Waiting(1, {.score = 9}));
  for (uint64_t arrival = 2; arrival <= 5; ++arrival) waiting.push_back(Waiting(arrival));
  waiting.push_back(Waiting(6, {.fresh = false}));
  for (Sequence& sequence : waiting) queue.Add(sequence);
  queue.Remove(waiting[1], WaitQueue::Leave::kAdmitted);
  EXPECT_EQ(queue.NumOvertakers(waiting[0]), 1);
  queue.Remove(waiting[2], WaitQueue::Leave::kAdmitted);
  EXPECT_EQ(queue.NumOvertakers(waiting[0]), 2);
  EXPECT_EQ(queue.NumOvertakers(waiting[3]), 0) << "those were before it";
  EXPECT_EQ(queue.NumOvertakers(waiting[5]), 0);
  std::vector<uint64_t> listed;
  queue.ForEach([&](const Sequence& sequence) { listed.push_back(sequence.order.arrival); });
  EXPECT_EQ(listed, (std::vector<uint64_t>{6, 1, 4, 5}));
  EXPECT_EQ(Admitted(queue), listed);
}

TEST(WaitQueueTest, WhoIsSkippedLetsOthersPassUntilTheNextWalk) {
  WaitQueue queue(1);
  std::vector<Sequence> waiting;
  waiting.push_back(Waiting(1, {.score = 9}));
  for (uint64_t arrival = 2; arrival <= 4; ++arrival) waiting.push_back(Waiting(arrival));
  for (Sequence& sequence : waiting) queue.Add(sequence);
  queue.Rewind();
  ASSERT_EQ(queue.Next(), &waiting[1]);
  queue.Remove(waiting[1], WaitQueue::Leave::kAdmitted);
  ASSERT_EQ(queue.Next(), &waiting[0]);  // overtaken once
  queue.Skip();
  EXPECT_EQ(queue.Next(), &waiting[2]);
  queue.Remove(waiting[2], WaitQueue::Leave::kAdmitted);
  queue.Rewind();
  EXPECT_EQ(queue.Next(), &waiting[0]);
}

TEST(WaitQueueTest, AnotherRankCountsAtOnceAndKeepsWhoOvertookIt) {
  WaitQueue queue(1);
  std::vector<Sequence> waiting;
  waiting.push_back(Waiting(1, {.unpinned = false}));
  waiting.push_back(Waiting(2, {.score = 1}));
  waiting.push_back(Waiting(3, {.score = 2}));
  for (Sequence& sequence : waiting) queue.Add(sequence);
  queue.Rewind();
  ASSERT_EQ(queue.Next(), &waiting[0]);
  queue.Rank(waiting[0], {.score = 3});
  ASSERT_EQ(queue.Next(), &waiting[1]);
  queue.Remove(waiting[1], WaitQueue::Leave::kAdmitted);
  queue.Rank(waiting[0], {.score = 4});
  queue.CheckInvariants();
  EXPECT_EQ(queue.Next(), &waiting[0]);
}

// Beside a list in which everyone's overtakers are counted one by one.
TEST(WaitQueueTest, NobodyWhoMayBeLetInIsOvertakenMoreThanTheBoundOnARandomWalk) {
  constexpr int32_t kBypassMax = 5;
  struct Entry {
    std::unique_ptr<Sequence> sequence;
    int32_t overtaken = 0;
  };
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const SeedNote note("the walk", seed);
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t n) { return random() % n; };
    WaitQueue queue(kBypassMax);
    std::vector<Entry> waiting;
    uint64_t arrival = 0;
    for (int32_t step = 0; step < 2000; ++step) {
      for (uint64_t n = below(4); n > 0; --n) {
        // Many that are quicker than the oldest: who has a high score would wait for ever.
        auto sequence = std::make_unique<Sequence>(
            Waiting(arrival++, {.fresh = below(10) > 0,
                                .priority = static_cast<int32_t>(below(2)),
                                .unpinned = below(4) > 0,
                                .score = static_cast<double>(below(5))}));
        queue.Add(*sequence);
        waiting.push_back({.sequence = std::move(sequence)});
      }
      if (below(8) == 0 && !waiting.empty()) {
        const size_t i = below(waiting.size());
        queue.Remove(*waiting[i].sequence, WaitQueue::Leave::kGone);
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(i));
      }
      queue.Rewind();
      for (uint64_t n = below(4); n > 0; --n) {
        Sequence* next = queue.Next();
        if (next == nullptr) break;
        for (Entry& entry : waiting) {
          if (entry.sequence.get() == next || !entry.sequence->rank.fresh || !next->rank.fresh) {
            continue;
          }
          if (!(entry.sequence->order < next->order)) continue;
          ASSERT_LT(entry.overtaken, kBypassMax);
          ++entry.overtaken;
        }
        queue.Remove(*next, WaitQueue::Leave::kAdmitted);
        std::erase_if(waiting, [&](const Entry& entry) { return entry.sequence.get() == next; });
      }
      queue.CheckInvariants();
      ASSERT_EQ(queue.size(), static_cast<int32_t>(waiting.size()));
    }
  }
}

}  // namespace
}  // namespace holdfast
