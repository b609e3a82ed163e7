#include "kvstore/layer_gate.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <thread>
#include <vector>

namespace holdfast {
namespace {

TEST(LayerGateTest, IsEndedUntilArmedAndAgainWhenFullyOpenOrFailed) {
  LayerGate gate(3, 4);
  EXPECT_EQ(gate.number(), 3);
  EXPECT_TRUE(gate.ended());
  gate.Arm(7);
  EXPECT_EQ(gate.num_blocks(), 7);
  EXPECT_FALSE(gate.ended());
  EXPECT_EQ(gate.num_open(), 0);
  gate.Open(1);
  gate.Open(3);
  EXPECT_EQ(gate.num_open(), 3);
  EXPECT_FALSE(gate.ended());
  EXPECT_TRUE(gate.Wait(3));
  gate.Open(4);
  EXPECT_TRUE(gate.ended());
  EXPECT_FALSE(gate.failed());
  EXPECT_TRUE(gate.Wait(4));

  gate.Arm(1);
  EXPECT_EQ(gate.num_open(), 0);
  gate.Open(2);
  gate.Fail();
  EXPECT_TRUE(gate.failed() && gate.ended());
  EXPECT_EQ(gate.num_open(), 0);
  EXPECT_FALSE(gate.Wait(1));  // also for what was open: the step is lost anyway
}

TEST(LayerGateTest, WhoWaitsSeesWhatWasWrittenBeforeTheLayerWasOpened) {
  constexpr int32_t kLayers = 30;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    LayerGate gate(0, kLayers);
    gate.Arm(1);
    std::array<uint32_t, kLayers> bytes{};
    std::vector<std::thread> readers;
    for (int i = 0; i < 2; ++i) {
      readers.emplace_back([&] {
        for (int32_t layer = 0; layer < kLayers; ++layer) {
          ASSERT_TRUE(gate.Wait(layer + 1));
          ASSERT_EQ(bytes[static_cast<size_t>(layer)], seed + 1);
        }
      });
    }
    std::mt19937 rng(seed);
    for (int32_t open = 0; open < kLayers;) {
      const int32_t next = std::min<int32_t>(open + 1 + static_cast<int32_t>(rng() % 3), kLayers);
      for (; open < next; ++open) bytes[static_cast<size_t>(open)] = seed + 1;
      gate.Open(open);
      if (rng() % 4 == 0) std::this_thread::yield();
    }
    for (std::thread& reader : readers) reader.join();
  }
}

TEST(LayerGateTest, FailingWakesEveryoneWhoWaits) {
  LayerGate gate(0, 8);
  gate.Arm(2);
  std::atomic<int> refused = 0;
  std::vector<std::thread> waiters;
  for (int32_t layers : {1, 4, 8}) {
    waiters.emplace_back([&, layers] {
      if (!gate.Wait(layers)) ++refused;
    });
  }
  gate.Fail();
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(refused.load(), 3);
}

}  // namespace
}  // namespace holdfast
