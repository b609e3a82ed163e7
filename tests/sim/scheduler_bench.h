// A scheduler over a fake engine, driven by hand: no thread, no clock but a counter.
#pragma once

#include <memory>

#include "absl/time/time.h"
#include "config/base/check.h"
#include "config/base/metrics.h"
#include "scheduler/metrics.h"
#include "scheduler/scheduler.h"
#include "tests/sim/fake_engine.h"
#include "tests/sim/recording_sink.h"

namespace holdfast {

class SchedulerBench final {
 public:
  explicit SchedulerBench(const FakeEngineOptions& engine_options,
                          const SchedulerOptions& options = {},
                          BlockKeyFunctions keys = Xxh3BlockKeys())
      : engine(engine_options), metrics(registry, options, engine_options.num_blocks) {
    auto created = Scheduler::Create(engine.info(), options, metrics, sink, keys);
    CHECK(created.ok());
    scheduler = *std::move(created);
  }

  bool Submit(Request request) { return scheduler->Submit(std::move(request), now); }

  // Plans and, if there is something to compute, executes and commits. False: there was nothing.
  bool Step() {
    if (!scheduler->Plan(now, plan)) return false;
    Finish();
    return true;
  }
  // The second half of a step that a test has planned itself.
  void Finish() {
    now += absl::Milliseconds(10);
    const absl::Status status = engine.Execute(plan, result);
    if (status.ok()) {
      scheduler->Commit(result, now);
    } else {
      scheduler->FailAll(absl::UnavailableError(status.message()));
    }
  }
  // Steps until nothing is left. Stops the process after `steps_max`: someone is starving.
  void RunToEnd(int64_t steps_max = 100'000) {
    while (Step()) CHECK(--steps_max > 0);
    CHECK(scheduler->idle());
  }

  MetricsRegistry registry;
  FakeEngine engine;
  RecordingSink sink;
  SchedulerMetrics metrics;
  std::unique_ptr<Scheduler> scheduler;
  StepPlan plan;
  StepResult result;
  absl::Time now = absl::UnixEpoch() + absl::Hours(1);
};

// A request for greedy tokens with the rest at its defaults.
inline Request MakeRequest(uint64_t id, std::vector<TokenId> prompt, int32_t max_tokens) {
  Request request;
  request.id = RequestId{id};
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

// `count` tokens that differ with `from`.
inline std::vector<TokenId> MakePrompt(int32_t count, TokenId from = 0) {
  std::vector<TokenId> prompt;
  for (int32_t i = 0; i < count; ++i) prompt.push_back((from * 131 + i * 7) % 1000);
  return prompt;
}

}  // namespace holdfast
