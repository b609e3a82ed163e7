#include "simulator/step_measurement.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "config/base/check.h"
#include "config/base/clock.h"
#include "config/base/metrics.h"
#include "config/base/status_macros.h"
#include "kvstore/kv_store.h"
#include "scheduler/scheduler_loop.h"
#include "simulator/simulated_engine.h"

namespace holdfast {
namespace {

// Steps of few rows feel whether one of their like came before: 4.4 ms of one row, and 9.8 after a
// long prefill has taken the weights out of the last cache. A service has both; the middle of the
// two predicted replays best (docs/simulation.md). Those that take longer than this do not feel it.
constexpr double kWarmedBelow = 0.06;  // seconds

struct WantedPart {
  int32_t context = 0;
  int32_t rows = 1;
  bool samples = true;
};
using WantedStep = std::vector<WantedPart>;

WantedStep Decodes(int32_t count, int32_t context) {
  return WantedStep(static_cast<size_t>(count), {.context = context});
}

// Beside decodes, as a busy instance has it.
void AddMixed(int32_t context, std::vector<WantedStep>& grid) {
  for (const int32_t decodes : {2, 6, 16}) {
    for (const int32_t rows : {32, 128}) {
      WantedStep mixed = Decodes(decodes, context);
      mixed.push_back({.context = 0, .rows = rows});
      grid.push_back(std::move(mixed));
    }
  }
}

std::vector<WantedStep> GridOf(const MeasurementOptions& options) {
  std::vector<WantedStep> grid;
  for (const int32_t context : options.contexts) {
    for (const int32_t rows : options.decode_rows) grid.push_back(Decodes(rows, context));
    for (const int32_t rows : options.prefill_rows) {
      grid.push_back({{.context = context, .rows = rows}});
      if (context == 0) grid.push_back({{.rows = rows, .samples = false}});
    }
    if (context > 0 && context <= 1024) AddMixed(context, grid);
  }
  for (const int32_t prompts : {4, 8, 16}) {  // several short prompts at once
    grid.push_back(WantedStep(static_cast<size_t>(prompts), {.rows = 24}));
  }
  return grid;
}

// Steps of the wanted shapes, each part in blocks of its own.
class StepRunner {
 public:
  explicit StepRunner(Engine& engine) : engine_(engine) {}

  bool Fits(const WantedStep& step) const {
    const EngineInfo& info = engine_.info();
    int64_t rows = 0, blocks = 0;
    for (const WantedPart& part : step) {
      if (part.context + part.rows > info.context_tokens) return false;
      rows += part.rows;
      blocks += BlocksFor(part.context + part.rows);
    }
    return static_cast<int64_t>(step.size()) <= info.num_sequence_slots &&
           rows <= info.step_tokens_max && blocks <= info.num_blocks;
  }

  // Gives every block the KV of real tokens.
  absl::Status FillBlocks() {
    Make({{.rows = kBlockTokens}});
    OpenSlots();
    RETURN_IF_ERROR(engine_.Execute(plan_, result_));
    Make({{.context = kBlockTokens}});
    for (int32_t block = 1; block < engine_.info().num_blocks; ++block) {
      plan_.copies.push_back(
          {.from = BlockId{0}, .to = BlockId{block}, .num_tokens = kBlockTokens - 1});
    }
    return engine_.Execute(plan_, result_);
  }

  absl::StatusOr<double> SecondsOf(const WantedStep& step) {
    Make(step);
    OpenSlots();
    const absl::Time begin = SteadyNow();
    RETURN_IF_ERROR(engine_.Execute(plan_, result_));
    return std::max(absl::ToDoubleSeconds(SteadyNow() - begin), 1e-9);
  }
  StepShape Shape(const WantedStep& step) {
    Make(step);
    return ShapeOf(plan_);
  }

 private:
  void Make(const WantedStep& step) {
    plan_.Clear();
    int32_t next_block = 0;
    for (const WantedPart& wanted : step) {
      const int32_t num_blocks = BlocksFor(wanted.context + wanted.rows);
      plan_.sequences.push_back({.slot = SequenceSlot{static_cast<int32_t>(plan_.sequences.size())},
                                 .first_position = wanted.context,
                                 .tokens_begin = static_cast<int32_t>(plan_.tokens.size()),
                                 .num_tokens = wanted.rows,
                                 .blocks_begin = static_cast<int32_t>(plan_.blocks.size()),
                                 .num_blocks = num_blocks,
                                 .samples = wanted.samples});
      for (int32_t i = 0; i < wanted.rows; ++i) {
        plan_.tokens.push_back((7 + 31 * (wanted.context + i)) % engine_.info().vocab_size);
      }
      for (int32_t i = 0; i < num_blocks; ++i) plan_.blocks.push_back(BlockId{next_block++});
    }
  }
  void OpenSlots() {
    for (const PlanSequence& part : plan_.sequences) {
      plan_.opens.push_back({.slot = part.slot, .sampling = {.temperature = 0.0f}});
    }
  }

  Engine& engine_;
  StepPlan plan_;
  StepResult result_;
};

// Waits for the end of a number of requests.
class EndCounter final : public TokenSink {
 public:
  void OnPrompt(PromptEvent) override {}
  void OnToken(TokenEvent) override {}
  void OnDone(RequestDone event) override {
    if (!event.status.ok()) failed_ = true;
  }
  bool failed() const { return failed_; }

 private:
  std::atomic<bool> failed_{false};
};

}  // namespace

absl::StatusOr<std::vector<MeasuredStep>> MeasureSteps(
    Engine& engine, const MeasurementOptions& options,
    const std::function<void(double)>& progress) {
  CHECK(options.passes > 0);
  StepRunner runner(engine);
  std::vector<WantedStep> grid = GridOf(options);
  std::erase_if(grid, [&](const WantedStep& step) { return !runner.Fits(step); });
  RETURN_IF_ERROR(runner.FillBlocks());
  std::vector<std::vector<double>> seconds(grid.size());
  const auto passes = static_cast<size_t>(options.passes) + 1;
  for (size_t pass = 0; pass < passes; ++pass) {
    for (size_t i = 0; i < grid.size(); ++i) {
      ASSIGN_OR_RETURN(double taken, runner.SecondsOf(grid[i]));
      if (taken < kWarmedBelow) {
        ASSIGN_OR_RETURN(const double again, runner.SecondsOf(grid[i]));
        taken = (taken + again) / 2;
      }
      if (pass > 0) seconds[i].push_back(taken);  // the first warms up
      if (progress) {
        progress(static_cast<double>(pass * grid.size() + i) /
                 static_cast<double>(passes * grid.size()));
      }
    }
  }
  std::vector<MeasuredStep> steps;
  for (size_t i = 0; i < grid.size(); ++i) {
    std::sort(seconds[i].begin(), seconds[i].end());
    steps.push_back({.shape = runner.Shape(grid[i]), .seconds = seconds[i][seconds[i].size() / 2]});
  }
  return steps;
}

absl::StatusOr<absl::Duration> MeasureAfterPause(Engine& engine) {
  constexpr int kPauses = 9;
  constexpr absl::Duration kPause = absl::Milliseconds(250);
  StepRunner runner(engine);
  const WantedStep step = {{.context = 256, .rows = 64}};
  if (!runner.Fits(step)) return absl::ZeroDuration();
  std::vector<double> more;
  for (int i = 0; i < kPauses; ++i) {
    absl::SleepFor(kPause);
    ASSIGN_OR_RETURN(const double rested, runner.SecondsOf(step));
    ASSIGN_OR_RETURN(const double warm, runner.SecondsOf(step));
    more.push_back(rested - warm);
  }
  std::sort(more.begin(), more.end());
  return absl::Seconds(std::max(more[kPauses / 2], 0.0));
}

absl::StatusOr<absl::Duration> MeasureBetweenSteps(const EngineInfo& engine, int32_t rows) {
  EngineInfo info = engine;
  const int32_t completion = std::min(2000, info.context_tokens - 1);
  rows = std::clamp(info.num_blocks / BlocksFor(completion + 1), 1, rows);
  SimulatedEngine instant(info, 1);
  MetricsRegistry registry;
  EndCounter ends;
  ASSIGN_OR_RETURN(const std::unique_ptr<SchedulerLoop> loop,
                   SchedulerLoop::Create(instant, {.running_max = rows}, registry, ends));
  const absl::Time begin = SteadyNow();
  for (int32_t i = 0; i < rows; ++i) {
    Request request;
    request.id = RequestId{static_cast<uint64_t>(i)};
    request.prompt = {static_cast<TokenId>(i % info.vocab_size)};
    request.max_tokens = completion;
    if (loop->Submit(std::move(request)) != Admit::kAccepted) {
      return absl::InternalError("the scheduler took no request");
    }
  }
  loop->BeginDrain();
  loop->WaitDrained(absl::InfiniteDuration());
  const absl::Duration elapsed = SteadyNow() - begin;
  const uint64_t steps = loop->snapshot().steps;
  if (ends.failed() || steps == 0) return absl::InternalError("the scheduler ended a request");
  return elapsed / static_cast<int64_t>(steps);
}

}  // namespace holdfast
