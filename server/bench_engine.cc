#include "server/bench_engine.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/engine_bound.h"
#include "server/engine_options.h"
#include "server/free_memory.h"
#include "server/processor_name.h"
#include "server/progress_bar.h"
#include "server/workload_arguments.h"

namespace holdfast {
namespace {

using Json = nlohmann::ordered_json;

// "VmRSS:     1234 kB" of this process, in bytes; 0 where the system does not say.
size_t OwnMemoryBytes(std::string_view name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string key;
    size_t kibibytes = 0;
    if (words >> key >> kibibytes && key == name) return kibibytes * 1024;
  }
  return 0;
}

// Tokens of a stream's longest context.
int64_t LongestContext(const EngineSpeedOptions& speed) {
  return std::max<int64_t>(speed.prompt_tokens,
                           int64_t{speed.context_tokens} + speed.generate_tokens);
}

absl::Status CheckContext(const EngineSpeedOptions& speed, int32_t model_context) {
  if (LongestContext(speed) <= model_context) return absl::OkStatus();
  if (speed.prompt_tokens > model_context) {
    return absl::InvalidArgumentError(Concat("a prompt of ", speed.prompt_tokens,
                                             " tokens: the model's context has ", model_context,
                                             "; lower --prompt"));
  }
  return absl::InvalidArgumentError(Concat(
      speed.generate_tokens, " tokens behind ", speed.context_tokens, ": the model's context has ",
      model_context, "; lower --generate, or --context",
      speed.context_tokens == speed.prompt_tokens ? ", which is --prompt where not given" : ""));
}

// The arena is mapped without being reserved: too large a one would be noticed by the system alone.
absl::Status CheckKvFits(const EngineSpeedOptions& speed, int64_t kv_bytes) {
  const auto free_bytes = FreeMemoryBytes();
  if (!free_bytes.ok() || kv_bytes <= *free_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(Concat(
      "the KV of ", speed.streams, " streams of ", LongestContext(speed), " tokens takes ",
      kv_bytes, " bytes, and ", *free_bytes, " are free; lower --streams, --context or --prompt"));
}

// Context, KV, slots and rows as the measurement needs them.
CpuEngineOptions EngineFor(const BenchEngineOptions& options, const LoadedModel& model) {
  CpuEngineOptions engine = options.engine;
  const KvLayout layout = Transformer::KvLayoutOf(model.config, engine.kv_dtype);
  engine.context_tokens = static_cast<int32_t>(LongestContext(options.speed));
  engine.kv_device_bytes = BlocksOf(options.speed) * static_cast<int64_t>(layout.block_bytes());
  engine.num_sequence_slots = options.speed.streams;
  engine.step_tokens_max = std::max({engine.step_tokens_max, options.speed.streams, kBlockTokens});
  return engine;
}

// Operations per second of what `work` has.
PerArithmetic<double> MeasureArithmetic(const ModelWork& work, Isa isa, int32_t threads,
                                        const SpeedSamples& samples) {
  const auto has = [&](Arithmetic arithmetic) {
    const auto i = static_cast<size_t>(arithmetic);
    return work.row_multiply_adds[i] + work.draw_multiply_adds[i] > 0;
  };
  const auto speed_of = [&](const PeakKernel& kernel) {
    return kernel.run == nullptr ? 0.0 : MeasurePeak(kernel, threads, samples).median;
  };
  PerArithmetic<double> speeds{};
  const PeakKernels own = PeakKernelsOf(isa);
  if (has(Arithmetic::kInt8)) speeds[0] = speed_of(own.int8);
  if (has(Arithmetic::kF32)) speeds[1] = speed_of(own.f32);
  if (has(Arithmetic::kBf16)) speeds[2] = std::max(speed_of(own.bf16), speed_of(own.f32));
  return speeds;
}

double MultiplyAdds(const ModelWork& work, double rows, double draws) {
  return SecondsOf(work, rows, draws, {2.0, 2.0, 2.0});
}

absl::Status AddBounds(const LoadedModel& model, const BenchEngineOptions& options,
                       CpuEngine& engine, EngineReport& report) {
  const EngineSpeedOptions& speed = report.options;
  const Isa isa = options.engine.isa.value_or(BestIsa());
  const ModelWork work = WorkOf(model.weights, options.engine.weights_mode);
  const auto peaks = MeasureArithmetic(work, isa, report.threads, options.machine);
  const double prompt = speed.prompt_tokens, streams = speed.streams;
  report.prefill_multiply_adds = MultiplyAdds(work, 1.0, 1.0 / prompt);
  report.decode_multiply_adds = MultiplyAdds(work, 1.0, 1.0);
  const double prefill_seconds = SecondsOf(work, 1.0, 1.0 / prompt, peaks);
  report.prefill_bound = 1.0 / prefill_seconds;
  report.operations_per_second = 2.0 * report.prefill_multiply_adds / prefill_seconds;
  report.decode_arithmetic_bound = 1.0 / SecondsOf(work, 1.0, 1.0, peaks);

  const double context = speed.context_tokens + (speed.generate_tokens + 1) / 2.0;
  report.step_weight_bytes = static_cast<double>(engine.transformer().weight_bytes());
  report.step_kv_bytes = streams * KvBytesRead(model.config, engine.info().kv_layout, context);
  const double step_bytes = report.step_weight_bytes + report.step_kv_bytes;
  ASSIGN_OR_RETURN(const Spread read,
                   MeasureRead(PeakKernelsOf(isa), static_cast<size_t>(step_bytes), report.threads,
                               options.machine));
  report.read_bytes_per_second = read.median;
  report.decode_read_bound = streams * read.median / step_bytes;
  return absl::OkStatus();
}

std::string SpeedLine(const char* what, const Spread& speed, double bound, const char* by) {
  return absl::StrFormat(
      "%-8s %30s %12.1f %8.1f %%  %s\n", what,
      absl::StrFormat("%.1f (%.1f-%.1f)", speed.median, speed.lowest, speed.highest), bound,
      100.0 * speed.median / bound, by);
}

const char* DecodeBoundBy(const EngineReport& report) {
  return report.decode_read_bound <= report.decode_arithmetic_bound ? "reading" : "arithmetic";
}

void AddSpeedJson(const std::string& what, const Spread& speed, double bound, Json& json) {
  json[what + "_tokens_per_second"] = speed.median;
  json[what + "_tokens_per_second_lowest"] = speed.lowest;
  json[what + "_tokens_per_second_highest"] = speed.highest;
  json[what + "_bound_tokens_per_second"] = bound;
  json[what + "_share_of_bound"] = speed.median / bound;
}

}  // namespace

absl::StatusOr<EngineReport> BenchEngine(const LoadedModel& model,
                                         const BenchEngineOptions& options,
                                         const std::function<void(double)>& progress) {
  RETURN_IF_ERROR(CheckContext(options.speed, model.config.context_tokens));
  CpuEngineOptions engine_options = EngineFor(options, model);
  if (engine_options.threads == 0) {
    engine_options.threads = std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));
  }
  RETURN_IF_ERROR(CheckKvFits(options.speed, engine_options.kv_device_bytes));
  ASSIGN_OR_RETURN(const std::unique_ptr<CpuEngine> engine,
                   CpuEngine::Create(model, engine_options));
  EngineReport report{.model = model.config.name,
                      .processor = ProcessorName(),
                      .isa = IsaName(engine_options.isa.value_or(BestIsa())),
                      .engine = engine->Describe(),
                      .threads = engine_options.threads,
                      .options = options.speed};
  // On a thread of its own, which the engine may pin: the bounds are measured on all processors.
  absl::StatusOr<EngineSpeed> speed;
  std::thread([&] { speed = MeasureEngine(*engine, options.speed, progress); }).join();
  ASSIGN_OR_RETURN(report.speed, std::move(speed));
  report.kv_bytes = static_cast<size_t>(engine_options.kv_device_bytes);
  report.resident_bytes = OwnMemoryBytes("VmRSS:");
  report.resident_file_bytes = OwnMemoryBytes("RssFile:");
  RETURN_IF_ERROR(AddBounds(model, options, *engine, report));
  return report;
}

std::string FormatEngineText(const EngineReport& report) {
  const EngineSpeedOptions& options = report.options;
  std::string text = absl::StrFormat(
      "%s on %s\n%s\n\n%d stream(s): a prompt of %d tokens each, then %d tokens each behind %d%s; "
      "%d runs\n",
      report.model, report.processor, report.engine, options.streams, options.prompt_tokens,
      options.generate_tokens, options.context_tokens,
      options.shared_context ? ", the same of all" : "", options.runs);
  text += absl::StrFormat("%-8s %30s %12s %10s\n", "tokens/s", "median (lowest-highest)", "bound",
                          "share");
  text += SpeedLine("prefill", report.speed.prefill_tokens_per_second, report.prefill_bound,
                    "arithmetic");
  text += SpeedLine("decode", report.speed.decode_tokens_per_second, report.decode_bound(),
                    DecodeBoundBy(report));
  text += absl::StrFormat(
      "\nprefill bound: %.1f million multiply-adds a token (matrices alone, one product a weight), "
      "at %.1f G operations/s\n",
      report.prefill_multiply_adds / 1e6, report.operations_per_second / 1e9);
  text += absl::StrFormat(
      "decode bounds: reading %.1f (%.1f MB of weights and %.1f of KV a step, at %.1f GB/s), "
      "arithmetic %.1f\n",
      report.decode_read_bound, report.step_weight_bytes / 1e6, report.step_kv_bytes / 1e6,
      report.read_bytes_per_second / 1e9, report.decode_arithmetic_bound);
  text += absl::StrFormat("resident: %.1f MB, %.1f of them pages of files; KV %.1f\n",
                          static_cast<double>(report.resident_bytes) / 1e6,
                          static_cast<double>(report.resident_file_bytes) / 1e6,
                          static_cast<double>(report.kv_bytes) / 1e6);
  return text;
}

std::string FormatEngineJson(const EngineReport& report) {
  const EngineSpeedOptions& options = report.options;
  Json json = {{"model", report.model},
               {"processor", report.processor},
               {"isa", report.isa},
               {"engine", report.engine},
               {"threads", report.threads},
               {"prompt_tokens", options.prompt_tokens},
               {"generate_tokens", options.generate_tokens},
               {"streams", options.streams},
               {"context_tokens", options.context_tokens},
               {"shared_context", options.shared_context},
               {"runs", options.runs}};
  AddSpeedJson("prefill", report.speed.prefill_tokens_per_second, report.prefill_bound, json);
  AddSpeedJson("decode", report.speed.decode_tokens_per_second, report.decode_bound(), json);
  json["decode_bound_by"] = DecodeBoundBy(report);
  json["decode_read_bound_tokens_per_second"] = report.decode_read_bound;
  json["decode_arithmetic_bound_tokens_per_second"] = report.decode_arithmetic_bound;
  json["prefill_multiply_adds_per_token"] = report.prefill_multiply_adds;
  json["decode_multiply_adds_per_token"] = report.decode_multiply_adds;
  json["decode_step_weight_bytes"] = report.step_weight_bytes;
  json["decode_step_kv_bytes"] = report.step_kv_bytes;
  json["operations_per_second"] = report.operations_per_second;
  json["read_bytes_per_second"] = report.read_bytes_per_second;
  json["kv_bytes"] = report.kv_bytes;
  json["resident_bytes"] = report.resident_bytes;
  json["resident_file_bytes"] = report.resident_file_bytes;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<BenchEngineOptions> BenchEngineOptionsOf(const CommandLine& line,
                                                        const DaemonConfig& config) {
  BenchEngineOptions options;
  VerbArguments arguments(line);
  arguments.Count("--prompt", 1, options.speed.prompt_tokens);
  arguments.Count("--generate", 1, options.speed.generate_tokens);
  arguments.Count("--streams", 1, options.speed.streams);
  arguments.Count("--runs", 1, options.speed.runs);
  options.speed.context_tokens = options.speed.prompt_tokens;
  arguments.Count("--context", 0, options.speed.context_tokens);
  options.speed.shared_context = arguments.Find("--shared-context") != nullptr;
  if (!arguments.status().ok()) return arguments.status();
  options.engine = EngineOptionsOf(config);
  return options;
}

absl::Status RunBenchEngine(const CommandLine& line, const DaemonConfig& config) {
  ASSIGN_OR_RETURN(const BenchEngineOptions options, BenchEngineOptionsOf(line, config));
  ASSIGN_OR_RETURN(const LoadedModel model, LoadModel(config.model.path));
  EngineReport report;
  {
    ProgressBar bar("bench engine");
    ASSIGN_OR_RETURN(report, BenchEngine(model, options, [&](double share) { bar.Show(share); }));
  }
  const std::string text = VerbArguments(line).Find("--json") != nullptr ? FormatEngineJson(report)
                                                                         : FormatEngineText(report);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return absl::OkStatus();
}

}  // namespace holdfast
