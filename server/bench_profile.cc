#include "server/bench_profile.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "config/base/clock.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "engine/cpu_block_mover.h"
#include "engine/cpu_engine.h"
#include "engine/weights.h"
#include "kvstore/host_tier.h"
#include "server/engine_options.h"
#include "server/model_text.h"
#include "server/processor_name.h"
#include "server/progress_bar.h"
#include "server/serving_measurement.h"
#include "simulator/cost_profile.h"
#include "simulator/step_measurement.h"

namespace holdfast {
namespace {

constexpr int64_t kKvBytesDefault = int64_t{2} << 30;
constexpr int64_t kHostBytes = int64_t{256} << 20;
constexpr size_t kBlocksAtOnce = 16;  // as the mover

// As the system names the processor, and the instructions that are used of it.
std::string DeviceName(const CpuEngineOptions& options) {
  return Concat(ProcessorName(), ", ", IsaName(options.isa.value_or(BestIsa())));
}

double BytesPerSecond(size_t blocks, size_t block_bytes, absl::Duration elapsed) {
  return static_cast<double>(blocks * block_bytes) / std::max(absl::ToDoubleSeconds(elapsed), 1e-9);
}

// Host memory by the tier itself: blocks out of the engine's KV and back, checksums included.
absl::StatusOr<TierCost> MeasureHost(CpuEngine& engine) {
  const EngineInfo& info = engine.info();
  const size_t block_bytes = info.kv_layout.block_bytes();
  ASSIGN_OR_RETURN(const std::unique_ptr<HostTier> tier, HostTier::Create(kHostBytes, block_bytes));
  CpuBlockMover mover(engine.kv_arena(), info.kv_layout, info.num_blocks);
  BlockIdentity identity;
  const auto reserve_all = [&] {
    std::vector<TierTransfer> transfers;
    while (const auto slot = tier->TryReserve()) {
      const auto block = static_cast<int32_t>(transfers.size()) % info.num_blocks;
      transfers.push_back(
          {.slot = *slot, .identity = &identity, .bytes = mover.HostView(BlockId{block})});
    }
    return transfers;
  };
  std::vector<TierTransfer> transfers = reserve_all();
  const auto in_batches = [&](auto move) {
    const absl::Time begin = SteadyNow();
    for (size_t i = 0; i < transfers.size(); i += kBlocksAtOnce) {
      move(std::span(transfers).subspan(i, std::min(kBlocksAtOnce, transfers.size() - i)));
    }
    return SteadyNow() - begin;
  };
  const auto put = [&](std::span<TierTransfer> some) { tier->Put(some); };
  const auto fetch = [&](std::span<TierTransfer> some) { tier->Fetch(some); };
  TierCost cost;
  in_batches(put);  // touches the pages
  for (const TierTransfer& transfer : transfers) tier->Drop(transfer.slot);
  transfers = reserve_all();
  cost.store_bytes_per_second = BytesPerSecond(transfers.size(), block_bytes, in_batches(put));
  cost.restore_bytes_per_second = BytesPerSecond(transfers.size(), block_bytes, in_batches(fetch));
  for (const TierTransfer& transfer : transfers) RETURN_IF_ERROR(transfer.status);
  return cost;
}

void PrintResiduals(const std::vector<MeasuredStep>& steps, const StepFit& fit) {
  std::string text =
      " decodes  prefill rows  ends   decode places  prefill places   measured     fit  error\n";
  for (const MeasuredStep& step : steps) {
    const double predicted = fit.cost.SecondsOf(step.shape);
    text += absl::StrFormat("%8d %13d %5d %15d %15d %8.2f ms %7.2f %+5.1f%%\n",
                            step.shape.decode_rows, step.shape.prefill_rows, step.shape.prompt_ends,
                            step.shape.decode_places, step.shape.prefill_places, 1e3 * step.seconds,
                            1e3 * predicted, 100 * (predicted / step.seconds - 1));
  }
  text += absl::StrFormat("%d steps; error of the fit: mean %.1f%%, p95 %.1f%%, greatest %.1f%%\n",
                          fit.quality.steps, 100 * fit.quality.mean_error,
                          100 * fit.quality.p95_error, 100 * fit.quality.max_error);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace

absl::Status RunBenchProfile(const DaemonConfig& config, const std::string& out) {
  CpuEngineOptions options = EngineOptionsOf(config);
  options.kv_device_bytes = config.engine.kv_device_bytes.value_or(kKvBytesDefault);
  if (options.threads == 0) {
    options.threads = std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));
  }
  ASSIGN_OR_RETURN(const LoadedModel model, LoadModel(config.model.path));
  ASSIGN_OR_RETURN(const std::unique_ptr<CpuEngine> engine, CpuEngine::Create(model, options));
  const EngineInfo& info = engine->info();

  std::vector<MeasuredStep> steps;
  {
    ProgressBar bar("bench profile");
    ASSIGN_OR_RETURN(steps, MeasureSteps(*engine, {}, [&](double share) { bar.Show(share); }));
  }
  ASSIGN_OR_RETURN(const StepFit fit, FitStepCost(steps));
  PrintResiduals(steps, fit);
  ASSIGN_OR_RETURN(const absl::Duration between, MeasureBetweenSteps(info));
  ASSIGN_OR_RETURN(const absl::Duration after_pause, MeasureAfterPause(*engine));
  ASSIGN_OR_RETURN(const TierCost host, MeasureHost(*engine));
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, MakeTokenizer(model.vocabulary));
  ASSIGN_OR_RETURN(const absl::Duration token, MeasureTokenServing(info, *tokenizer));
  const absl::string_view digest(reinterpret_cast<const char*>(info.model_digest.data()),
                                 info.model_digest.size());
  const std::string json =
      FormatCostProfile({.binding = {.model_digest = absl::BytesToHexString(digest),
                                     .kv_layout = info.kv_layout,
                                     .device = DeviceName(options),
                                     .threads = options.threads},
                         .vocab_size = info.vocab_size,
                         .context_tokens = info.context_tokens,
                         .step = fit.cost,
                         .between_steps_seconds = absl::ToDoubleSeconds(between),
                         .token_seconds = absl::ToDoubleSeconds(token) / options.threads,
                         .after_pause_seconds = absl::ToDoubleSeconds(after_pause),
                         .host = host,
                         .fit = fit.quality});
  if (out.empty()) {
    std::fwrite(json.data(), 1, json.size(), stdout);
    return absl::OkStatus();
  }
  std::ofstream file(out, std::ios::binary);
  file << json;
  file.close();
  return file ? absl::OkStatus() : absl::UnavailableError(Concat(out, ": cannot be written"));
}

}  // namespace holdfast
