#include "kvstore/kv_event_ring.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kvstore/kv_store.h"

namespace holdfast {
namespace {

KvEvent Stored(uint64_t block) { return {.kind = KvEvent::Kind::kStored, .block = block}; }

bool IsReadable(int fd) {
  pollfd polled{.fd = fd, .events = POLLIN};
  return poll(&polled, 1, 0) == 1;
}

TEST(KvEventRingTest, WhatFindsNoRoomIsLostAndCounted) {
  KvEventRing ring(3);
  for (uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(ring.Push(Stored(i)));
  EXPECT_FALSE(ring.Push(Stored(3)));
  EXPECT_EQ(ring.num_lost(), 1u);
  std::array<KvEvent, 2> out;
  ASSERT_EQ(ring.Take(out), 2u);
  EXPECT_EQ(out[0], Stored(0));
  EXPECT_EQ(out[1], Stored(1));
  ASSERT_TRUE(ring.Push(Stored(4)));
  ASSERT_EQ(ring.Take(out), 2u);
  EXPECT_EQ(out[0], Stored(2));
  EXPECT_EQ(out[1], Stored(4));
  EXPECT_TRUE(ring.IsEmpty());
  EXPECT_EQ(ring.Take(out), 0u);
}

TEST(KvEventRingTest, OnlyAReaderThatSleepsIsWokenAndOnlyForNews) {
  KvEventRing ring(4);
  ASSERT_TRUE(ring.Push(Stored(1)));
  ring.Wake();
  EXPECT_FALSE(IsReadable(ring.wake_fd()));
  EXPECT_FALSE(ring.PrepareToSleep()) << "there is an event";
  std::array<KvEvent, 4> out;
  ASSERT_EQ(ring.Take(out), 1u);
  ASSERT_TRUE(ring.PrepareToSleep());
  ring.Wake();
  EXPECT_FALSE(IsReadable(ring.wake_fd())) << "nothing has come";
  ASSERT_TRUE(ring.Push(Stored(2)));
  ring.Wake();
  EXPECT_TRUE(IsReadable(ring.wake_fd()));
  ring.EndSleep();
  EXPECT_FALSE(IsReadable(ring.wake_fd()));
}

TEST(KvEventRingTest, EverythingReachesAReaderThatSleepsBetween) {
  constexpr uint64_t kEvents = 20'000;
  KvEventRing ring(64);
  std::thread writer([&] {
    for (uint64_t i = 0; i < kEvents;) {
      if (ring.Push(Stored(i))) {
        ++i;
        if (i % 7 == 0) ring.Wake();
      } else {
        ring.Wake();
        std::this_thread::yield();
      }
    }
    ring.Wake();
  });
  uint64_t next = 0;
  std::array<KvEvent, 16> out;
  while (next < kEvents) {
    const size_t count = ring.Take(out);
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(out[i].block, next++);
    if (count > 0 || !ring.PrepareToSleep()) continue;
    pollfd polled{.fd = ring.wake_fd(), .events = POLLIN};
    ASSERT_EQ(poll(&polled, 1, 60'000), 1) << "nobody woke us at " << next;
    ring.EndSleep();
  }
  writer.join();
}

TEST(KvStoreEventsTest, AStoreBeginsByTellingThatNothingIsThereAndThenWhatIs) {
  KvEventRing ring(16);
  KvStore store({.device_blocks = 4, .events = &ring});
  const ReuseScope scope{7};
  std::vector<TokenId> tokens(2 * kBlockTokens + 1);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i);
  std::vector<BlockId> table;
  PublishedPrefix prefix;
  const absl::Time now = absl::UnixEpoch();
  ASSERT_TRUE(store.TryAcquirePrefix({.scope = scope, .tokens = tokens, .num_blocks = 3}, now,
                                     table, prefix));
  store.Publish(scope, tokens, 2 * kBlockTokens, PrefixReuse::kPublish, now, table, prefix);
  EXPECT_TRUE(ring.IsEmpty()) << "before TellAnew";
  store.TellAnew();
  EXPECT_TRUE(store.IsAllTold());

  std::array<KvEvent, 16> out;
  ASSERT_EQ(ring.Take(out), 3u);
  EXPECT_EQ(out[0], KvEvent{});
  EXPECT_EQ(out[1].kind, KvEvent::Kind::kStored);
  EXPECT_FALSE(out[1].has_parent);
  EXPECT_EQ(out[2].parent, out[1].block);
  EXPECT_TRUE(std::equal(out[2].tokens.begin(), out[2].tokens.end(), tokens.begin() + 16));

  store.Release(now, table, prefix);
  ASSERT_TRUE(store.TryAcquire(4, {}, now, table));
  ASSERT_EQ(ring.Take(out), 2u);
  EXPECT_EQ(out[0].kind, KvEvent::Kind::kRemoved) << "the child first";
  EXPECT_EQ(out[0].tokens, KvEvent{}.tokens);
  EXPECT_NE(out[0].block, out[1].block);
}

}  // namespace
}  // namespace holdfast
