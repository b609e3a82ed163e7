// The loop with its two threads. Also run under the thread sanitizer.
#include "scheduler/scheduler_loop.h"

#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "config/base/mutex.h"
#include "gtest/gtest.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/unit/scheduler/shared_sink.h"

namespace holdfast {
namespace {

// Holds each step back until the test lets it go.
class Gate {
 public:
  void Pass() {
    MutexLock lock(&mutex_);
    arrived_ = true;
    news_.NotifyAll();
    while (!open_) news_.Wait(&mutex_);
  }
  void WaitArrived() {
    MutexLock lock(&mutex_);
    while (!arrived_) news_.Wait(&mutex_);
  }
  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    news_.NotifyAll();
  }

 private:
  Mutex mutex_;
  CondVar news_;
  bool open_ = false, arrived_ = false;
};

std::unique_ptr<SchedulerLoop> MakeLoop(
    Engine& engine, const SchedulerOptions& options, MetricsRegistry& registry, TokenSink& sink,
    SchedulerLoop::EngineErrorListener on_engine_error = nullptr, const Clock* clock = nullptr) {
  auto loop =
      SchedulerLoop::Create(engine, options, registry, sink, std::move(on_engine_error), clock);
  CHECK(loop.ok());
  return *std::move(loop);
}

TEST(SchedulerLoopTest, ManyThreadsSubmitAndCancelAndEachAcceptedRequestEndsOnce) {
  constexpr int kThreads = 4, kEach = 60;
  FakeEngine engine({.context_tokens = 128, .num_blocks = 12, .num_sequence_slots = 6});
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = MakeLoop(engine, {.running_max = 6, .waiting_max = 20, .chunk_tokens_max = 24},
                       registry, sink);
  std::atomic<int> accepted{0};
  std::atomic<bool> kept[kThreads * kEach] = {};
  const auto make = [](int index) {
    return MakeRequest(static_cast<uint64_t>(index), MakePrompt(20 + index % 40, index % 3),
                       1 + index % 20);
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 rng(static_cast<uint32_t>(thread));
      for (int i = 0; i < kEach; ++i) {
        const int index = thread * kEach + i;
        while (true) {
          const Admit admit = loop->Submit(make(index));
          if (admit == Admit::kAccepted) break;
          ASSERT_EQ(admit, Admit::kShed);
          std::this_thread::yield();
        }
        accepted.fetch_add(1);
        kept[index] = rng() % 3 != 0;
        if (!kept[index]) {
          loop->Cancel(RequestId{static_cast<uint64_t>(index)});
          if (rng() % 2 == 0) loop->Cancel(RequestId{static_cast<uint64_t>(index)});
        }
        (void)loop->snapshot();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  sink.WaitDone(accepted);
  loop->BeginDrain();
  EXPECT_TRUE(loop->WaitDrained(absl::InfiniteDuration()));
  loop->Stop();
  EXPECT_EQ(sink.num_done(), kThreads * kEach);
  const SchedulerSnapshot snapshot = loop->snapshot();
  EXPECT_EQ(snapshot.requests, 0);
  EXPECT_EQ(snapshot.blocks.held, 0);

  for (int index = 0; index < kThreads * kEach; ++index) {
    const RequestId id{static_cast<uint64_t>(index)};
    const RecordedRequest recorded = sink.Get(id);
    if (!kept[index]) continue;
    ASSERT_TRUE(recorded.done->ok());
    SchedulerBench alone({}, {.prefix_cache = false});
    ASSERT_TRUE(alone.Submit(make(index)));
    alone.RunToEnd();
    ASSERT_EQ(recorded.choices, alone.sink[id].choices);
  }
}

TEST(SchedulerLoopTest, TenantsComeWhileThoseBeforeThemAreServedAndSendAtOnce) {
  constexpr int kTenants = 20, kEach = 8;
  FakeEngine engine({.context_tokens = 128, .num_blocks = 24, .num_sequence_slots = 6});
  MetricsRegistry registry;
  SharedSink sink;
  SchedulerOptions options{.running_max = 6, .waiting_max = kTenants * kEach};
  options.tenants = {{.name = "t0"}};
  auto loop = MakeLoop(engine, options, registry, sink);
  std::vector<std::thread> threads;
  for (int tenant = 0; tenant < kTenants; ++tenant) {
    if (tenant > 0) {
      options.tenants.push_back({.name = "t" + std::to_string(tenant), .waiting_max = kEach});
      loop->SetTenants(options.tenants);
      EXPECT_EQ(loop->RequestsAtOnceMax(TenantIndex{tenant}), options.running_max + kEach);
    }
    threads.emplace_back([&, tenant] {
      for (int i = 0; i < kEach; ++i) {
        Request request =
            MakeRequest(static_cast<uint64_t>(tenant * kEach + i), MakePrompt(20 + i, tenant), 6);
        request.tenant = TenantIndex{tenant};
        ASSERT_EQ(loop->Submit(std::move(request)), Admit::kAccepted);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  sink.WaitDone(kTenants * kEach);
  loop->Stop();
  loop->SetTenants(options.tenants);  // too late, and no harm
  for (uint64_t id = 0; id < kTenants * kEach; ++id) {
    EXPECT_TRUE(sink.Get(RequestId{id}).done->ok());
  }
}

TEST(SchedulerLoopTest, PastItsBoundARequestIsShedAtOnceAndStaysWithTheCaller) {
  FakeEngine engine({});
  Gate gate;
  engine.OnExecute([&](const StepPlan&) { gate.Pass(); });
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = MakeLoop(engine, {.running_max = 1, .waiting_max = 2}, registry, sink);
  for (uint64_t id = 1; id <= 3; ++id) {
    ASSERT_EQ(loop->Submit(MakeRequest(id, {1, 2}, 1)), Admit::kAccepted);
  }
  Request fourth = MakeRequest(4, {1, 2}, 1);
  EXPECT_EQ(loop->Submit(std::move(fourth)), Admit::kShed);
  EXPECT_EQ(fourth.prompt.size(), 2u);
  gate.Open();
  sink.WaitDone(3);
  EXPECT_EQ(loop->Submit(std::move(fourth)), Admit::kAccepted);
  sink.WaitDone(4);
}

TEST(SchedulerLoopTest, RequestsThatComeTogetherAreShedTogetherAndCountedOnce) {
  FakeEngine engine({});
  Gate gate;
  engine.OnExecute([&](const StepPlan&) { gate.Pass(); });
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = MakeLoop(engine, {.running_max = 1, .waiting_max = 2}, registry, sink);
  EXPECT_EQ(loop->RequestsAtOnceMax(TenantIndex{0}), 3);
  ASSERT_EQ(loop->Submit(MakeRequest(1, {1, 2}, 1)), Admit::kAccepted);
  const auto together = [] {
    std::vector<Request> requests;
    for (uint64_t id = 2; id <= 4; ++id) requests.push_back(MakeRequest(id, {1, 2}, 1));
    return requests;
  };
  std::vector<Request> three = together();
  EXPECT_EQ(loop->SubmitAll(std::move(three)), Admit::kShed);
  ASSERT_EQ(three.size(), 3u);  // stay with the caller
  EXPECT_NE(registry.Serialize().find(
                "holdfast_scheduler_shed_total{reason=\"capacity\",tenant=\"default\"} 1\n"),
            std::string::npos);
  gate.Open();
  sink.WaitDone(1);
  EXPECT_EQ(loop->SubmitAll(std::move(three)), Admit::kAccepted);
  sink.WaitDone(4);
}

TEST(SchedulerLoopTest, AStoppedChoiceEndsWhileItsSiblingGoesOn) {
  FakeEngine engine({});
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = MakeLoop(engine, {}, registry, sink);
  Request request = MakeRequest(1, MakePrompt(40), 60);
  request.num_choices = 2;
  ASSERT_EQ(loop->Submit(std::move(request)), Admit::kAccepted);
  while (sink.Get(RequestId{1}).choices[1].tokens.empty()) std::this_thread::yield();
  loop->StopChoice(RequestId{1}, 1);  // may come late, on a fast machine
  loop->StopChoice(RequestId{7}, 0);
  sink.WaitDone(1);
  const RecordedRequest recorded = sink.Get(RequestId{1});
  EXPECT_TRUE(recorded.done->ok());
  EXPECT_EQ(recorded.choices.at(0).tokens.size(), 60u);
  loop->Stop();
  EXPECT_EQ(loop->snapshot().blocks.held, 0);
}

TEST(SchedulerLoopTest, ACancelDuringAStepTakesEffectWithThatStep) {
  FakeEngine engine({});
  Gate gate;
  engine.OnExecute([&](const StepPlan&) { gate.Pass(); });
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = MakeLoop(engine, {}, registry, sink);
  ASSERT_EQ(loop->Submit(MakeRequest(1, MakePrompt(40), 100)), Admit::kAccepted);
  gate.WaitArrived();
  loop->Cancel(RequestId{1});
  gate.Open();
  sink.WaitDone(1);
  EXPECT_EQ(sink.Get(RequestId{1}).done->code(), absl::StatusCode::kCancelled);
  loop->Stop();
  EXPECT_LE(engine.num_steps(), 2);  // the cancel may cross with the step's end
}

TEST(SchedulerLoopTest, ADrainFinishesWhatWasAcceptedAndTakesNothingNew) {
  FakeEngine engine({});
  Gate gate;
  engine.OnExecute([&](const StepPlan&) { gate.Pass(); });
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = MakeLoop(engine, {}, registry, sink);
  for (uint64_t id = 1; id <= 5; ++id) {
    ASSERT_EQ(loop->Submit(MakeRequest(id, MakePrompt(20), 10)), Admit::kAccepted);
  }
  loop->BeginDrain();
  EXPECT_EQ(loop->Submit(MakeRequest(6, {1}, 1)), Admit::kDraining);
  EXPECT_TRUE(loop->snapshot().draining);
  EXPECT_FALSE(loop->WaitDrained(absl::ZeroDuration()));
  gate.Open();
  EXPECT_TRUE(loop->WaitDrained(absl::InfiniteDuration()));
  for (uint64_t id = 1; id <= 5; ++id) {
    EXPECT_EQ(sink.Get(RequestId{id}).choices.at(0).tokens.size(), 10u);
  }
}

TEST(SchedulerLoopTest, AnIdleLoopDrainsAtOnceAndStopsTwice) {
  FakeEngine engine({});
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = MakeLoop(engine, {}, registry, sink);
  loop->BeginDrain();
  EXPECT_TRUE(loop->WaitDrained(absl::InfiniteDuration()));
  loop->Stop();
  loop->Stop();
  loop->Cancel(RequestId{1});
  EXPECT_EQ(loop->Submit(MakeRequest(6, {1}, 1)), Admit::kDraining);
}

TEST(SchedulerLoopTest, StoppingEndsEveryAcceptedRequest) {
  FakeEngine engine({});
  Gate gate;
  engine.OnExecute([&](const StepPlan&) { gate.Pass(); });
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = MakeLoop(engine, {.running_max = 2}, registry, sink);
  for (uint64_t id = 1; id <= 5; ++id) {
    ASSERT_EQ(loop->Submit(MakeRequest(id, MakePrompt(20), 200)), Admit::kAccepted);
  }
  gate.WaitArrived();
  std::thread stopper([&] { loop->Stop(); });
  gate.Open();
  stopper.join();
  EXPECT_EQ(sink.num_done(), 5);
  for (uint64_t id = 1; id <= 5; ++id) {
    const absl::StatusCode code = sink.Get(RequestId{id}).done->code();
    // On a slow machine the stop may come after the last token.
    EXPECT_TRUE(code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kOk) << code;
  }
  EXPECT_EQ(loop->snapshot().requests, 0);
}

TEST(SchedulerLoopTest, AfterAnEngineErrorTheLoopTellsItAndGoesOn) {
  FakeEngine engine({});
  engine.FailStep(1);
  MetricsRegistry registry;
  SharedSink sink;
  std::atomic<int> num_told{0};
  auto loop = MakeLoop(engine, {}, registry, sink, [&](const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    ++num_told;
  });
  ASSERT_EQ(loop->Submit(MakeRequest(1, MakePrompt(20), 10)), Admit::kAccepted);
  sink.WaitDone(1);
  EXPECT_EQ(sink.Get(RequestId{1}).done->code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(num_told.load(), 1);
  EXPECT_EQ(loop->snapshot().consecutive_failures, 1);
  EXPECT_FALSE(loop->snapshot().engine_failing);
  ASSERT_EQ(loop->Submit(MakeRequest(2, MakePrompt(20), 10)), Admit::kAccepted);
  sink.WaitDone(2);
  EXPECT_TRUE(sink.Get(RequestId{2}).done->ok());
  EXPECT_EQ(num_told.load(), 1);
}

class SettableClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixSeconds(seconds.load()); }
  std::atomic<int64_t> seconds{1000};
};

TEST(SchedulerLoopTest, FailuresInARowMeanAFailingEngineUntilItHasRestedOrAStepIsGood) {
  FakeEngine engine({});
  MetricsRegistry registry;
  SharedSink sink;
  SettableClock clock;
  auto loop = MakeLoop(engine, {}, registry, sink, nullptr, &clock);
  for (int i = 0; i < kEngineFailuresMax; ++i) {
    EXPECT_FALSE(loop->snapshot().engine_failing);
    engine.FailStep(i);  // its thread is idle
    ASSERT_EQ(loop->Submit(MakeRequest(static_cast<uint64_t>(i), MakePrompt(20), 10)),
              Admit::kAccepted);
    sink.WaitDone(i + 1);
  }
  EXPECT_TRUE(loop->snapshot().engine_failing);
  clock.seconds += absl::ToInt64Seconds(kEngineFailingTime);
  EXPECT_FALSE(loop->snapshot().engine_failing);
  EXPECT_EQ(loop->snapshot().consecutive_failures, kEngineFailuresMax);
  ASSERT_EQ(loop->Submit(MakeRequest(9, MakePrompt(20), 10)), Admit::kAccepted);
  sink.WaitDone(kEngineFailuresMax + 1);
  EXPECT_TRUE(sink.Get(RequestId{9}).done->ok());
  EXPECT_EQ(loop->snapshot().consecutive_failures, 0);
}

TEST(SchedulerLoopTest, SizesThatMakeNoSenseAreRefusedAtStart) {
  FakeEngine engine({.context_tokens = 1000, .num_blocks = 4});
  MetricsRegistry registry;
  SharedSink sink;
  const auto loop = SchedulerLoop::Create(engine, {}, registry, sink);
  EXPECT_EQ(loop.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace holdfast
