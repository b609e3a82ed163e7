// What the scheduler is told at start; made by main from the daemon's configuration.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "config/scheduler_policy.h"
#include "config/tenant_config.h"
#include "kvstore/kv_store_options.h"

namespace holdfast {

struct SchedulerOptions {
  int32_t running_max = 64;        // sequences in one step; the engine's slots bound it too
  int32_t waiting_max = 512;       // requests in the queue when all places are taken; beyond: shed
  int32_t step_tokens_max = 512;   // token budget of a step; the engine's bound holds too
  int32_t chunk_tokens_max = 512;  // of one sequence's prefill in a step
  int32_t long_prefill_tokens_max = 256;  // of a step, for long prompts while others decode
  int32_t offline_step_tokens_max = 64;   // of a step, for offline requests
  absl::Duration step_time_max = absl::Milliseconds(100);  // while tenants share the machine
  // Who goes first and what stays for an agent's next turn; in which order a tenant's requests of
  // equal right are let in, and how many may overtake one. The daemon's own settings are other than
  // these (config/daemon_config.h).
  SchedulerPolicy policy = SchedulerPolicy::kFcfsLru;
  WaitOrder order = WaitOrder::kArrival;
  absl::Duration ageing_time = absl::Seconds(10);  // of kRemainingWork
  int32_t bypass_max = 32;
  // Of those that are let in next, so many keep what they would find; 0: none does.
  int32_t pin_window = 0;
  // Drafts of what a sequence may draw next, and at most so many of one sequence in a step.
  Speculation speculation = Speculation::kOff;
  int32_t draft_tokens_max = 8;
  // A request that would wait longer before it runs is refused; infinite: none is.
  absl::Duration queue_wait_max = absl::InfiniteDuration();
  // How long a sequence waits, while others pass, to hear what the remote tier has of its prompt.
  absl::Duration lookup_wait = absl::Seconds(1);
  bool prefix_cache = true;           // false: no KV is ever found again
  std::vector<TenantConfig> tenants;  // by TenantIndex; empty: the one tenant `default`
  std::string model_name;             // label of the metrics
  // Of the store what is not the engine's to say: tiers, eviction, shares (by TenantIndex; who is
  // missing has none), bounds of moves and pins. Its sizes come from the engine.
  KvStoreOptions kv;
};

// As many as there ever are: a simulation may begin with more than a daemon can have.
inline size_t TenantsMax(const SchedulerOptions& options) {
  return std::max(kTenantsMax, options.tenants.size());
}

}  // namespace holdfast
