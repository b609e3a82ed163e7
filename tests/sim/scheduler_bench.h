// A scheduler over a fake engine, driven by hand: no thread, no clock but a counter.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "config/base/check.h"
#include "config/base/metrics.h"
#include "scheduler/metrics.h"
#include "scheduler/scheduler.h"
#include "tests/sim/fake_engine.h"
#include "tests/sim/recording_sink.h"
#include "tests/sim/sim_media.h"

namespace holdfast {

class SchedulerBench final {
 public:
  explicit SchedulerBench(const FakeEngineOptions& engine_options,
                          const SchedulerOptions& options = {},
                          BlockKeyFunctions keys = Xxh3BlockKeys())
      : engine(engine_options), metrics(registry, options, engine_options.num_blocks) {
    SchedulerOptions with_keys = options;
    with_keys.kv.keys = keys;
    auto created = Scheduler::Create(engine.info(), with_keys, metrics, sink);
    CHECK(created.ok());
    scheduler = *std::move(created);
  }

  bool Submit(Request request) { return scheduler->Submit(std::move(request), now); }

  // For options with tiers; outlives the bench. Moves end when FinishMove is called.
  void UseMover(SimMover& with) { mover = &with; }

  // The next step, unless it has been planned beside the last.
  bool Plan() { return scheduler->step_running() || PlanInto(plan); }
  // And the one after it, if that can be.
  bool PlanAhead() {
    if (has_next || !scheduler->step_running() || !scheduler->may_plan()) return false;
    return has_next = PlanInto(next_plan);
  }
  // False: nothing moves.
  bool FinishMove() {
    if (mover == nullptr || mover->idle()) return false;
    scheduler->OnMoveDone(mover->FinishOne(), now);
    return true;
  }

  // Plans and, if there is something to compute, executes and commits. False: there was nothing.
  bool Step() {
    if (!Plan()) return false;
    Finish();
    return true;
  }
  // The second half of a step that a test has planned itself.
  void Finish() {
    now += absl::Milliseconds(10);
    for (const StepPlan::MaskedDraw& masked : plan.masked) {
      const PlanSequence& part = plan.sequences[static_cast<size_t>(masked.sequence)];
      masked.mask->Begin();
      masked.mask->Prepare(masked.draw, plan.TokensOf(part).back());
    }
    const absl::Status status = engine.Execute(plan, result);
    const bool runs_on = std::exchange(has_next, false) && status.ok();
    if (runs_on) {
      FillDraws(result, next_plan);
      std::swap(plan, next_plan);
    }
    if (status.ok()) {
      scheduler->Commit(result, now);
    } else {
      scheduler->FailAll(absl::UnavailableError(status.message()));
    }
  }
  // Steps until nothing is left. Stops the process after `steps_max`: someone is starving.
  void RunToEnd(int64_t steps_max = 100'000) {
    while (Step() || FinishMove()) CHECK(--steps_max > 0);
    CHECK(scheduler->idle());
  }

  bool PlanInto(StepPlan& into) {
    const bool planned = scheduler->Plan(now, into);
    scheduler->TakeMoves(jobs);
    if (mover != nullptr) mover->Take(jobs);
    CHECK(jobs.empty());
    return planned;
  }

  MetricsRegistry registry;
  FakeEngine engine;
  RecordingSink sink;
  SchedulerMetrics metrics;
  std::unique_ptr<Scheduler> scheduler;
  StepPlan plan, next_plan;
  bool has_next = false;
  StepResult result;
  SimMover* mover = nullptr;
  std::vector<MoveJob> jobs;
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
