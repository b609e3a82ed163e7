#include "scheduler/metrics.h"

#include <algorithm>

namespace holdfast {
namespace {

std::vector<double> StepBuckets() {
  return {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10};
}

std::vector<double> RowBuckets() { return {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048}; }

}  // namespace

SchedulerMetrics::SchedulerMetrics(MetricsRegistry& registry, const SchedulerOptions& options,
                                   int32_t num_blocks)
    : preemptions(registry.AddCounter("holdfast_scheduler_preemptions_total",
                                      "Running sequences whose blocks were taken back.")),
      recomputed_tokens(registry.AddCounter("holdfast_scheduler_recomputed_tokens_total",
                                            "Tokens computed again after a preemption.")),
      steps_failed(registry.AddCounter("holdfast_scheduler_steps_failed_total",
                                       "Steps that the engine could not compute.")),
      run_ahead(registry.AddCounter("holdfast_scheduler_run_ahead_total",
                                    "Times a step computed a sequence before all layers of the KV "
                                    "that it found were back.")),
      run_ahead_lost(registry.AddCounter("holdfast_scheduler_run_ahead_lost_total",
                                         "Of these, in vain: a layer was bad or did not come.")),
      draft_tokens(registry.AddCounter("holdfast_scheduler_draft_tokens_total",
                                       "Tokens that were guessed, and computed before they were "
                                       "drawn.")),
      accepted_draft_tokens(registry.AddCounter("holdfast_scheduler_accepted_draft_tokens_total",
                                                "Of these, drawn as they were guessed.")),
      forced_tokens(registry.AddCounter("holdfast_scheduler_forced_tokens_total",
                                        "Completion tokens that a form left no choice of, and that "
                                        "were taken with the one before them.")),
      step_seconds(registry.AddHistogram("holdfast_scheduler_step_seconds",
                                         "Time of a step, from planned to committed.",
                                         StepBuckets())),
      step_rows(registry.AddHistogram("holdfast_scheduler_step_rows",
                                      "Tokens computed in one step.", RowBuckets())),
      kv(registry, options.model_name, num_blocks),
      programs(registry, TenantsMax(options)),
      registry_(registry),
      tenants_(TenantsMax(options)),
      running_(registry.AddGauge("holdfast_scheduler_running_sequences",
                                 "Sequences in the running set.")),
      waiting_(registry.AddGauge("holdfast_scheduler_waiting_sequences",
                                 "Sequences in the queue, preempted ones among them.")),
      vllm_running_(registry.AddGauge("vllm:num_requests_running",
                                      "Alias of holdfast_scheduler_running_sequences.",
                                      {{"model_name", options.model_name}})),
      vllm_waiting_(registry.AddGauge("vllm:num_requests_waiting",
                                      "Alias of holdfast_scheduler_waiting_sequences.",
                                      {{"model_name", options.model_name}})) {
  registry
      .AddGauge("vllm:cache_config_info", "Sizes of the KV cache, as labels.",
                {{"block_size", std::to_string(kBlockTokens)},
                 {"num_gpu_blocks", std::to_string(num_blocks)},
                 {"model_name", options.model_name}})
      .Set(1);
  // No adapters are served: the pickers that score by them find none.
  registry
      .AddGauge("vllm:lora_requests_info", "LoRA adapters in use, as labels: none.",
                {{"max_lora", "0"}, {"running_lora_adapters", ""}, {"waiting_lora_adapters", ""}})
      .Set(0);
  for (size_t i = 0; i < kNumWaitReasons; ++i) {
    waiting_by_reason_.push_back(
        registry.AddGauge("holdfast_scheduler_waiting_by_reason",
                          "Sequences in the queue by why the last plan left them there.",
                          {{"reason", WaitReasonName(static_cast<WaitReason>(i))}}));
  }
  SetQueues(0, 0);
  AddTenants(NamesOf(options.tenants));
}

void SchedulerMetrics::AddTenants(const std::vector<std::string>& names) {
  for (size_t i = tenants_.size(); i < names.size(); ++i) {
    tenants_.Add(OfTenant(registry_, names[i]));
    programs.AddTenant(names[i]);
  }
}

SchedulerMetrics::Tenant SchedulerMetrics::OfTenant(MetricsRegistry& registry,
                                                    const std::string& name) {
  const MetricLabels labels = {{"tenant", name}};
  const auto shed = [&](ShedReason reason) {
    MetricLabels with_reason = labels;
    with_reason["reason"] = ShedReasonName(reason);
    return registry.AddCounter("holdfast_scheduler_shed_total",
                               "Submissions refused, by the bound that had no room; the "
                               "prompts of one body count once.",
                               with_reason);
  };
  const auto hits = [&](const char* tier) {
    MetricLabels with_tier = labels;
    with_tier["tier"] = tier;
    return registry.AddCounter("holdfast_kvstore_hit_tokens_total",
                               "Prompt tokens that needed no prefill, by where their KV lay.",
                               with_tier);
  };
  return {.prompt_tokens =
              registry.AddCounter("holdfast_scheduler_prompt_tokens_total",
                                  "Prompt tokens of requests whose prompt is computed.", labels),
          .cached_tokens = registry.AddCounter("holdfast_scheduler_cached_tokens_total",
                                               "Prompt tokens that needed no prefill.", labels),
          .completion_tokens = registry.AddCounter("holdfast_scheduler_completion_tokens_total",
                                                   "Tokens drawn and delivered.", labels),
          .compute_seconds = registry.AddCounter("holdfast_scheduler_compute_seconds_total",
                                                 "Time of steps, shared out by rows.", labels),
          .kv_byte_seconds =
              registry.AddCounter("holdfast_scheduler_kv_byte_seconds_total",
                                  "KV of the device that running sequences and pins hold, over "
                                  "time.",
                                  labels),
          .running_requests = registry.AddGauge("holdfast_scheduler_running_requests",
                                                "Requests that run, by tenant.", labels),
          .waiting_requests =
              registry.AddGauge("holdfast_scheduler_waiting_requests",
                                "Requests in the queue that have not run yet, by tenant.", labels),
          .queue_seconds = registry.AddHistogram("holdfast_scheduler_queue_seconds",
                                                 "Time from submitted to first admitted.",
                                                 LatencyBuckets(), labels),
          .hit_tokens = {hits("device"), hits("host"), hits("disk"), hits("remote")},
          .shed = {shed(ShedReason::kCapacity), shed(ShedReason::kQueue),
                   shed(ShedReason::kTenantQueue), shed(ShedReason::kQueueShare),
                   shed(ShedReason::kQueueWait), shed(ShedReason::kRequestRate),
                   shed(ShedReason::kTokenRate)}};
}

void SchedulerMetrics::SetQueues(int32_t running_sequences, int32_t waiting_sequences) {
  running_.Set(running_sequences);
  waiting_.Set(waiting_sequences);
  vllm_running_.Set(running_sequences);
  vllm_waiting_.Set(waiting_sequences);
}

void SchedulerMetrics::SetWaitReasons(const std::array<int32_t, kNumWaitReasons>& sequences) {
  for (size_t i = 0; i < kNumWaitReasons; ++i) waiting_by_reason_[i].Set(sequences[i]);
}

}  // namespace holdfast
