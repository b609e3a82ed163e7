// The loop with a real mover and real host memory: moves end on other threads, at any time.
#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "config/base/mutex.h"
#include "gtest/gtest.h"
#include "scheduler/scheduler_loop.h"
#include "tests/sim/fake_engine.h"
#include "tests/sim/hooked_host_tier.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/unit/scheduler/shared_sink.h"

namespace holdfast {
namespace {

class FakeBlockMover final : public BlockMover {
 public:
  explicit FakeBlockMover(FakeEngine& engine) : engine_(engine) {}
  std::span<std::byte> HostView(BlockId block) override { return engine_.Bytes(block); }
  absl::Status CopyOut(BlockId, std::span<std::byte>) override {
    return absl::InternalError("it has a host view");
  }
  absl::Status CopyIn(BlockId, std::span<const std::byte>) override {
    return absl::InternalError("it has a host view");
  }

 private:
  FakeEngine& engine_;
};

// Makes the second layer of what comes back wait for a step that is at work on top of the first,
// and spoils some of it by the third.
class Dawdler final {
 public:
  void BeforeLayer(HostTier& host, std::span<TierTransfer> transfers, int32_t layer) {
    MutexLock lock(&mutex_);
    if (layer == 0) ++num_begun_;
    while (layer == 1 && num_steps_ < num_begun_ && !hurried_) news_.Wait(&mutex_);
    if (layer == 2 && num_begun_ % 3 == 0) {
      const std::span<std::byte> block = host.View(transfers.back().slot);
      block[2 * block.size() / static_cast<size_t>(host.num_layers())] ^= std::byte{1};
    }
  }
  void NoteStepBehindGate() {
    MutexLock lock(&mutex_);
    ++num_steps_;
    news_.NotifyAll();
  }
  int num_steps() {
    MutexLock lock(&mutex_);
    return num_steps_;
  }
  void Hurry() {
    MutexLock lock(&mutex_);
    hurried_ = true;
    news_.NotifyAll();
  }

 private:
  Mutex mutex_;
  CondVar news_;
  int num_begun_ ABSL_GUARDED_BY(mutex_) = 0;  // prefixes, to come back
  int num_steps_ ABSL_GUARDED_BY(mutex_) = 0;  // behind their gates
  bool hurried_ ABSL_GUARDED_BY(mutex_) = false;
};

struct Served {
  explicit Served(int32_t num_layers = 1)
      : engine({.context_tokens = 128, .num_blocks = 9, .num_layers = num_layers}), device(engine) {
    auto created = HostTier::Create(64 * 4096, engine.info().kv_layout.block_bytes(), num_layers);
    CHECK(created.ok());
    host = std::make_unique<HookedHostTier>(
        *std::move(created),
        [this](HostTier& tier, std::span<TierTransfer> transfers, int32_t layer) {
          dawdler.BeforeLayer(tier, transfers, layer);
        });
    engine.OnExecute([this](const StepPlan& plan) {
      for (const PlanSequence& part : plan.sequences) {
        if (part.gate != nullptr) dawdler.NoteStepBehindGate();
      }
    });
    SchedulerOptions options;
    options.kv.host = host.get();
    options.kv.low_water = 0.5;
    auto made = SchedulerLoop::Create(engine, options, registry, sink, nullptr, nullptr,
                                      {.device = &device, .recovered = {}});
    CHECK(made.ok());
    loop = *std::move(made);
  }

  FakeEngine engine;
  FakeBlockMover device;
  Dawdler dawdler;
  std::unique_ptr<HookedHostTier> host;
  MetricsRegistry registry;
  SharedSink sink;
  std::unique_ptr<SchedulerLoop> loop;  // goes first
};

Request Turn(uint64_t id, TokenId from) { return MakeRequest(id, MakePrompt(100, from), 3); }

TEST(LoopTiersTest, WhatLeftTheDeviceComesBackAndSaysTheSame) {
  Served served;
  std::map<TokenId, RecordedChoice> first;
  int32_t num_cached = 0;
  uint64_t id = 0;
  for (int round = 0; round < 4; ++round) {
    for (TokenId from = 0; from < 4; ++from) {
      ASSERT_EQ(served.loop->Submit(Turn(++id, from)), Admit::kAccepted);
      const RecordedRequest said = served.sink.Wait(RequestId{id});
      ASSERT_TRUE(said.done->ok());
      if (round == 0) first[from] = said.choices.at(0);
      EXPECT_EQ(said.choices.at(0), first[from]);
      num_cached += said.prompt->cached_tokens;
    }
  }
  EXPECT_GT(num_cached, 0);
  std::promise<CacheReport> promise;
  ASSERT_TRUE(
      served.loop->AskReport([&](CacheReport&& report) { promise.set_value(std::move(report)); }));
  const CacheReport report = promise.get_future().get();
  ASSERT_EQ(report.tenants.size(), 1u);
  EXPECT_GT(report.tenants[0].hit_tokens[TierAt(TierKind::kHost)], 0u);
  EXPECT_GT(report.tenants[0].blocks[TierAt(TierKind::kHost)], 0);
  EXPECT_EQ(report.capacity[TierAt(TierKind::kHost)], served.host->capacity());
}

TEST(LoopTiersTest, StoppingInTheMiddleOfMovesEndsEveryRequest) {
  for (int stop_after = 0; stop_after < 12; ++stop_after) {
    Served served;
    uint64_t id = 0;
    for (int i = 0; i <= stop_after; ++i) {
      ASSERT_EQ(served.loop->Submit(Turn(++id, i % 4)), Admit::kAccepted);
    }
    if (stop_after % 2 == 0) served.sink.Wait(RequestId{1});
    served.loop->Stop();
    for (uint64_t i = 1; i <= id; ++i) EXPECT_TRUE(served.sink.Wait(RequestId{i}).done.has_value());
    EXPECT_FALSE(served.loop->AskReport([](CacheReport&&) {}));
  }
}

TEST(LoopTiersTest, WhatIsComputedOnTopOfLayersThatStillComeSaysTheSame) {
  Served served(/*num_layers=*/8);
  std::map<TokenId, RecordedChoice> first;
  uint64_t id = 0;
  for (int round = 0; round < 8; ++round) {
    for (TokenId from = 0; from < 4; ++from) {
      ASSERT_EQ(served.loop->Submit(Turn(++id, from)), Admit::kAccepted);
      const RecordedRequest said = served.sink.Wait(RequestId{id});
      ASSERT_TRUE(said.done->ok());
      if (round == 0) first[from] = said.choices.at(0);
      EXPECT_EQ(said.choices.at(0), first[from]);
    }
  }
  EXPECT_GT(served.dawdler.num_steps(), 10);  // every one of them had to be waited for
}

TEST(LoopTiersTest, StoppingWhileAStepWaitsForLayersEndsEveryRequest) {
  for (int seed = 0; seed < 12; ++seed) {
    Served served(/*num_layers=*/8);
    uint64_t id = 0;
    for (; id < 6; ++id) {  // so that the first has gone
      ASSERT_EQ(served.loop->Submit(Turn(id + 1, static_cast<TokenId>(id % 3))), Admit::kAccepted);
      if (id < 3) served.sink.Wait(RequestId{id + 1});
    }
    std::thread hurry([&] {
      for (int i = 0; i < seed; ++i) std::this_thread::yield();
      served.dawdler.Hurry();
    });
    if (seed % 2 == 0) served.loop->Cancel(RequestId{4});
    served.loop->Stop();
    hurry.join();
    for (uint64_t i = 1; i <= id; ++i) EXPECT_TRUE(served.sink.Wait(RequestId{i}).done.has_value());
  }
}

TEST(LoopTiersTest, HandingDownEndsOnceAllMovesAreDoneAndPinsAreOver) {
  Served served;
  Request request = Turn(1, 0);
  request.session = "agent";
  request.retain = {.ttl = absl::Hours(1)};
  request.prompt.resize(30);
  ASSERT_EQ(served.loop->Submit(std::move(request)), Admit::kAccepted);
  for (uint64_t id = 2; id < 6; ++id) {
    ASSERT_EQ(served.loop->Submit(Turn(id, static_cast<TokenId>(id % 4))), Admit::kAccepted);
  }
  served.loop->BeginDrain();
  ASSERT_TRUE(served.loop->WaitDrained(absl::InfiniteDuration()));
  served.loop->BeginHandDown();
  EXPECT_TRUE(served.loop->WaitHandedDown(absl::InfiniteFuture()).ended);
  EXPECT_EQ(served.loop->snapshot().blocks.held, 0);
}

TEST(LoopTiersTest, APinIsListedAndDroppedFromOutside) {
  Served served;
  Request request = Turn(1, 0);
  request.session = "agent";
  request.retain = {.ttl = absl::Hours(1)};
  request.prompt.resize(30);
  ASSERT_EQ(served.loop->Submit(std::move(request)), Admit::kAccepted);
  ASSERT_TRUE(served.sink.Wait(RequestId{1}).done->ok());
  std::promise<CacheReport> before, after;
  std::promise<bool> dropped;
  ASSERT_TRUE(served.loop->AskReport([&](CacheReport&& r) { before.set_value(std::move(r)); }));
  ASSERT_TRUE(
      served.loop->DropPin(TenantIndex{0}, "agent", [&](bool had) { dropped.set_value(had); }));
  ASSERT_TRUE(served.loop->AskReport([&](CacheReport&& r) { after.set_value(std::move(r)); }));
  const CacheReport listed = before.get_future().get();
  ASSERT_EQ(listed.pins.size(), 1u);
  EXPECT_EQ(listed.pins[0].session, "agent");
  EXPECT_EQ(listed.pins[0].num_blocks, 2);
  EXPECT_TRUE(dropped.get_future().get());
  EXPECT_TRUE(after.get_future().get().pins.empty());
}

}  // namespace
}  // namespace holdfast
