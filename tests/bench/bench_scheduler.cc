// What deciding a step costs the scheduler's thread: Plan and Commit of sequences that draw a token
// each, beside others that wait, without an engine. Arguments: sequences that run, sequences that
// wait, tenants.
//
//   bench_scheduler --benchmark_format=json      ./dev bench scheduler: by turns, tabled
//
// With HOLDFAST_COUNT_INSTRUCTIONS=1 in the environment also `instructions_per_sequence`: whether a
// sequence costs the same work in a larger step, whatever the caches do to its time.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "config/base/check.h"
#include "config/base/concat.h"
#include "config/base/metrics.h"
#include "scheduler/metrics.h"
#include "scheduler/scheduler.h"
#include "tests/bench/instruction_count.h"

namespace holdfast {
namespace {

constexpr int32_t kPromptTokens = 512;
constexpr int64_t kSteps = 1500;  // measured, so that none of those that run comes to its end

class NoSink final : public TokenSink {
 public:
  void OnPrompt(PromptEvent) override {}
  void OnToken(TokenEvent) override {}
  void OnDone(RequestDone) override {}
};

EngineInfo Engine(int32_t running) {
  EngineInfo engine;
  engine.vocab_size = 1000;
  engine.context_tokens = 4096;
  engine.kv_layout = {.num_layers = 1, .num_kv_heads = 1, .head_dim = 8};
  engine.num_blocks = (running + 64) * BlocksFor(engine.context_tokens);
  engine.num_sequence_slots = running;
  engine.step_tokens_max = running + 8192;
  return engine;
}

void Answer(const StepPlan& plan, StepResult& result) {
  result.Clear();
  for (const PlanSequence& part : plan.sequences) {
    if (part.samples) result.samples.push_back({.slot = part.slot, .token = 7});
  }
}

void BM_Step(benchmark::State& state, SchedulerPolicy policy, WaitOrder order) {
  const auto running = static_cast<int32_t>(state.range(0));
  const auto waiting = static_cast<int32_t>(state.range(1));
  const auto num_tenants = static_cast<int32_t>(state.range(2));
  SchedulerOptions options{.running_max = running,
                           .waiting_max = waiting + running,
                           .step_tokens_max = running + 8192,
                           .long_prefill_tokens_max = 8192,
                           .policy = policy,
                           .order = order,
                           .pin_window = 8};
  for (int32_t i = 0; i < num_tenants; ++i) options.tenants.push_back({.name = Concat("t", i)});
  const EngineInfo engine = Engine(running);
  MetricsRegistry registry;
  SchedulerMetrics metrics(registry, options, engine.num_blocks);
  NoSink sink;
  auto scheduler = *Scheduler::Create(engine, options, metrics, sink);
  absl::Time now = absl::FromUnixSeconds(1'000'000'000);
  for (int32_t i = 0; i < running + waiting; ++i) {
    Request request;
    request.id = RequestId{static_cast<uint64_t>(i) + 1};
    request.tenant = TenantIndex{i % num_tenants};
    request.session = Concat("program ", i);
    for (int32_t t = 0; t < kPromptTokens; ++t) {
      request.prompt.push_back((i * 31 + t * (1 + i % 7)) % engine.vocab_size);
    }
    request.max_tokens = engine.context_tokens - kPromptTokens;
    CHECK(scheduler->Submit(std::move(request), now));
  }
  StepPlan plan;
  StepResult result;
  const auto step = [&] {
    now += absl::Milliseconds(20);
    const auto begin = std::chrono::steady_clock::now();
    CHECK(scheduler->Plan(now, plan));
    const auto planned = std::chrono::steady_clock::now();
    Answer(plan, result);
    const auto answered = std::chrono::steady_clock::now();
    scheduler->Commit(result, now);
    const auto committed = std::chrono::steady_clock::now();
    return std::chrono::duration<double>((planned - begin) + (committed - answered)).count();
  };
  // Until all that may run draw tokens.
  while (scheduler->num_running() < running ||
         static_cast<int32_t>(plan.tokens.size()) != running) {
    step();
  }
  double seconds = 0;
  for (auto _ : state) {
    const double took = step();
    state.SetIterationTime(took);
    seconds += took;
  }
  CHECK(scheduler->num_running() == running && scheduler->num_waiting() == waiting);
  if (std::getenv("HOLDFAST_COUNT_INSTRUCTIONS") != nullptr) {
    state.counters["instructions_per_sequence"] =
        static_cast<double>(InstructionsOf(step)) / running;
  }
  state.counters["ns_per_sequence"] = 1e9 * seconds / (static_cast<double>(kSteps) * running);
}

void Sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"running", "waiting", "tenants"})
      ->UseManualTime()
      ->Iterations(kSteps)
      ->Unit(benchmark::kMicrosecond);
  for (const int64_t tenants : {1, 8}) {
    bench->Args({256, 2000, tenants});
    bench->Args({1024, 2000, tenants});
    bench->Args({4096, 2000, tenants});
  }
}
BENCHMARK_CAPTURE(BM_Step, fcfs_lru, SchedulerPolicy::kFcfsLru, WaitOrder::kArrival)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Step, continuum, SchedulerPolicy::kContinuum, WaitOrder::kRemainingWork)
    ->Apply(Sizes);

}  // namespace
}  // namespace holdfast

BENCHMARK_MAIN();
