// The loop with a real mover and real host memory: moves end on other threads, at any time.
#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "config/base/mutex.h"
#include "gtest/gtest.h"
#include "kvstore/host_tier.h"
#include "scheduler/scheduler_loop.h"
#include "tests/sim/fake_engine.h"
#include "tests/sim/scheduler_bench.h"

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

class WaitingSink final : public TokenSink {
 public:
  void OnPrompt(PromptEvent event) override {
    MutexLock lock(&mutex_);
    sink_.OnPrompt(std::move(event));
  }
  void OnToken(TokenEvent event) override {
    MutexLock lock(&mutex_);
    sink_.OnToken(std::move(event));
  }
  void OnDone(RequestDone event) override {
    MutexLock lock(&mutex_);
    sink_.OnDone(std::move(event));
    ++num_done_;
    news_.NotifyAll();
  }
  RecordedRequest Wait(RequestId id) {
    MutexLock lock(&mutex_);
    while (!sink_.done(id)) news_.Wait(&mutex_);
    return sink_[id];
  }

 private:
  Mutex mutex_;
  CondVar news_;
  RecordingSink sink_;
  int num_done_ = 0;
};

struct Served {
  Served() : device(engine) {
    auto created = HostTier::Create(64 * 4096, engine.info().kv_layout.block_bytes());
    CHECK(created.ok());
    host = *std::move(created);
    SchedulerOptions options;
    options.kv.host = host.get();
    options.kv.low_water = 0.5;
    auto made = SchedulerLoop::Create(engine, options, registry, sink, nullptr, nullptr,
                                      {.device = &device, .recovered = {}});
    CHECK(made.ok());
    loop = *std::move(made);
  }

  FakeEngine engine{{.context_tokens = 128, .num_blocks = 9}};
  FakeBlockMover device;
  std::unique_ptr<HostTier> host;
  MetricsRegistry registry;
  WaitingSink sink;
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
