// Speed of the CPU engine on one model: a prefill of 512 tokens, and decodes at several batch
// sizes. Prints one line a measurement; the caller repeats it and says on which machine.
//
//   HOLDFAST_MODEL=... bench_engine [threads] [isa: scalar|avx2|avx512-vnni]
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

#include "engine/cpu_engine.h"

namespace holdfast {
namespace {

// Wall time, and the processor time of all threads: the latter holds up beside other work.
struct Spent {
  double wall = 0.0, processor = 0.0;
};

double SecondsOf(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

Spent Now() { return {SecondsOf(CLOCK_MONOTONIC), SecondsOf(CLOCK_PROCESS_CPUTIME_ID)}; }

void PrintSpeed(const char* what, int32_t tokens, const Spent& start) {
  const Spent end = Now();
  std::printf(" %s: %.0f tokens/s, %.0f us of processor a token;", what,
              tokens / (end.wall - start.wall), 1e6 * (end.processor - start.processor) / tokens);
}

// Runs `sequences` prompts of `prompt_tokens` and then `decodes` steps of all of them; prints both
// speeds.
int Measure(CpuEngine& engine, int32_t sequences, int32_t prompt_tokens, int32_t decodes) {
  const int32_t blocks_each = (prompt_tokens + decodes) / kBlockTokens + 1;
  StepPlan plan;
  StepResult result;
  const auto add = [&](int32_t sequence, int32_t position, int32_t count) {
    PlanSequence s{.slot = SequenceSlot{sequence},
                   .first_position = position,
                   .tokens_begin = static_cast<int32_t>(plan.tokens.size()),
                   .num_tokens = count,
                   .blocks_begin = static_cast<int32_t>(plan.blocks.size()),
                   .num_blocks = blocks_each,
                   .samples = true};
    for (int32_t i = 0; i < count; ++i) plan.tokens.push_back((7 + 31 * (position + i)) % 40000);
    for (int32_t b = 0; b < blocks_each; ++b) {
      plan.blocks.push_back(BlockId{sequence * blocks_each + b});
    }
    plan.sequences.push_back(s);
  };
  Spent start = Now();
  std::printf("sequences=%-3d prompt=%-4d", sequences, prompt_tokens);
  for (int32_t sequence = 0; sequence < sequences; ++sequence) {
    plan.Clear();
    plan.opens.push_back({.slot = SequenceSlot{sequence}, .sampling = {.temperature = 0.0f}});
    add(sequence, 0, prompt_tokens);
    if (!engine.Execute(plan, result).ok()) return 1;
  }
  PrintSpeed("prefill", sequences * prompt_tokens, start);
  start = Now();
  for (int32_t step = 0; step < decodes; ++step) {
    plan.Clear();
    for (int32_t s = 0; s < sequences; ++s) add(s, prompt_tokens + step, 1);
    if (!engine.Execute(plan, result).ok()) return 1;
  }
  PrintSpeed("decode", sequences * decodes, start);
  std::printf("\n");
  return 0;
}

int Run(int argc, char** argv) {
  const char* path = std::getenv("HOLDFAST_MODEL");
  if (path == nullptr) {
    std::fprintf(stderr, "set HOLDFAST_MODEL to the model file\n");
    return 1;
  }
  CpuEngineOptions options{.threads = argc > 1 ? std::atoi(argv[1]) : 0,
                           .kv_device_bytes = int64_t{2} << 30};
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni}) {
    if (argc > 2 && std::string(argv[2]) == IsaName(isa)) options.isa = isa;
  }
  const Spent start = Now();
  absl::StatusOr<LoadedModel> model = LoadModel(path);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
    return 1;
  }
  absl::StatusOr<std::unique_ptr<CpuEngine>> engine = CpuEngine::Create(*model, options);
  if (!engine.ok()) {
    std::fprintf(stderr, "%s\n", engine.status().ToString().c_str());
    return 1;
  }
  std::printf("load_s=%.2f %s\n", Now().wall - start.wall, (*engine)->Describe().c_str());
  int faults = 0;
  faults += Measure(**engine, 1, 512, 128);
  faults += Measure(**engine, 8, 128, 64);
  faults += Measure(**engine, 32, 128, 32);
  return faults;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) { return holdfast::Run(argc, argv); }
