// What the scheduler tells the outside about itself, and about the store that it owns. Gauges are
// set from counts after each step; a scrape reads them and never touches the scheduler.
//
// The vllm:* names are aliases with vLLM's meaning, because the endpoint pickers of Kubernetes read
// them without configuration (vLLM documentation, "Production metrics").
//
// Thread: made at start, then the scheduler's; counters may be added to by any, and tenants by one.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "config/base/growing_table.h"
#include "config/base/metrics.h"
#include "config/ids.h"
#include "kvstore/kv_store.h"
#include "scheduler/admission.h"
#include "scheduler/kv_metrics.h"
#include "scheduler/program_metrics.h"
#include "scheduler/scheduler_options.h"
#include "scheduler/sequence.h"

namespace holdfast {

class SchedulerMetrics final {
 public:
  SchedulerMetrics(MetricsRegistry& registry, const SchedulerOptions& options, int32_t num_blocks);

  struct Tenant {               // label tenant
    Counter prompt_tokens;      // holdfast_scheduler_prompt_tokens_total
    Counter cached_tokens;      // holdfast_scheduler_cached_tokens_total; part of the former
    Counter completion_tokens;  // holdfast_scheduler_completion_tokens_total
    Counter compute_seconds;    // holdfast_scheduler_compute_seconds_total; see usage_meter.h
    Counter kv_byte_seconds;    // holdfast_scheduler_kv_byte_seconds_total; likewise
    Gauge running_requests;     // holdfast_scheduler_running_requests
    Gauge waiting_requests;     // holdfast_scheduler_waiting_requests; that have not run yet
    Histogram queue_seconds;    // holdfast_scheduler_queue_seconds; submitted to first admitted
    // holdfast_kvstore_hit_tokens_total{tier=}; adds up to cached_tokens
    std::array<Counter, kNumTiers> hit_tokens;
    // holdfast_scheduler_shed_total{reason=}; what was submitted as one counts once
    std::array<Counter, kNumShedReasons> shed;
    void AddHits(const TierTokens& tokens) {
      for (size_t i = 0; i < tokens.size(); ++i) hit_tokens[i].Add(static_cast<double>(tokens[i]));
    }
    Counter& Shed(ShedReason reason) { return shed[static_cast<size_t>(reason)]; }
  };
  static Tenant OfTenant(MetricsRegistry& registry, const std::string& name);
  Tenant& Of(TenantIndex tenant) { return tenants_[static_cast<size_t>(Number(tenant))]; }
  // New ones behind those that there are: `names` has all. Before the scheduler is told of them.
  void AddTenants(const std::vector<std::string>& names);

  Counter preemptions;            // holdfast_scheduler_preemptions_total
  Counter recomputed_tokens;      // holdfast_scheduler_recomputed_tokens_total; after preemption
  Counter steps_failed;           // holdfast_scheduler_steps_failed_total
  Counter run_ahead;              // holdfast_scheduler_run_ahead_total; see scheduler.h
  Counter run_ahead_lost;         // holdfast_scheduler_run_ahead_lost_total; of the former, in vain
  Counter draft_tokens;           // holdfast_scheduler_draft_tokens_total; computed
  Counter accepted_draft_tokens;  // holdfast_scheduler_accepted_draft_tokens_total; drawn as well
  Counter forced_tokens;          // holdfast_scheduler_forced_tokens_total; taken without a draw
  Histogram step_seconds;         // holdfast_scheduler_step_seconds; planned to committed
  Histogram step_rows;            // holdfast_scheduler_step_rows

  KvMetrics kv;             // the store's
  ProgramMetrics programs;  // of agents, and their pins

  // Also the aliases vllm:num_requests_running, vllm:num_requests_waiting (each sequence is a
  // request there).
  void SetQueues(int32_t running_sequences, int32_t waiting_sequences);
  void SetWaitReasons(const std::array<int32_t, kNumWaitReasons>& sequences);  // by WaitReason

 private:
  MetricsRegistry& registry_;
  GrowingTable<Tenant> tenants_;
  Gauge running_;  // holdfast_scheduler_running_sequences
  Gauge waiting_;  // holdfast_scheduler_waiting_sequences
  // holdfast_scheduler_waiting_by_reason{reason=}; as of the last plan, then adding up to the
  // former
  std::vector<Gauge> waiting_by_reason_;
  Gauge vllm_running_;
  Gauge vllm_waiting_;
};

}  // namespace holdfast
