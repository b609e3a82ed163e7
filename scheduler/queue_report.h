// Who runs and who waits, and why, by tenant, as an operator sees it; and what is known of the
// tenants' agent programs. Made by the scheduler when asked, between steps.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "config/ids.h"
#include "config/scheduler_policy.h"
#include "kvstore/block_pool.h"
#include "kvstore/pin_table.h"
#include "scheduler/policy/ttl_pin.h"
#include "scheduler/sequence.h"

namespace holdfast {

// Of those that wait, and as many of those that run; more are counted and not listed.
inline constexpr size_t kQueueEntriesMax = 1000;

struct QueueReport {
  using Reasons = std::array<int32_t, kNumWaitReasons>;  // by WaitReason; sequences

  struct Tenant {
    double weight = 1;
    double served = 0, served_offline = 0;  // virtual tokens by weight (policy/fair_share.h)
    int32_t running = 0, waiting = 0;       // sequences
    int32_t running_requests = 0, waiting_requests = 0;
    Reasons waiting_by_reason{};  // adds up to `waiting`
    int32_t blocks = 0;           // of sequences that run; one that several share counts for each
    int32_t pins = 0, pinned_blocks = 0;
    int32_t programs = 0, programs_paused = 0;    // paused: no turn of it is here
    int32_t tools = 0, tool_durations = 0;        // known; a tool without a name is one
    double memoryfulness = 1;                     // eta
    absl::Duration queue_delay;                   // T
    std::array<TtlCount, kNumTtlSources> ttls{};  // by TtlSource
  };
  struct Entry {
    RequestId request{};
    int32_t choice = 0;
    TenantIndex tenant{};
    std::string session;
    int32_t priority = 0;
    bool offline = false;
    int32_t prompt_tokens = 0, completion_tokens = 0;
    absl::Duration age;         // since its request came
    int32_t num_preempted = 0;  // how often
    // Of one that waits.
    WaitReason reason = WaitReason::kTurn;
    int32_t overtaken = 0;  // by how many that came later; see wait_queue.h
    // Of one that runs.
    int32_t computed_tokens = 0, blocks = 0;
    bool restoring = false;
  };

  SchedulerPolicy policy = SchedulerPolicy::kFcfsLru;
  WaitOrder order = WaitOrder::kArrival;
  // Of the whole.
  int32_t running = 0, running_max = 0;  // sequences
  int32_t waiting = 0;                   // likewise
  int32_t waiting_requests = 0, waiting_requests_max = 0;
  Reasons waiting_by_reason{};
  BlockCounts device;
  int32_t pins = 0, pinned_blocks = 0;
  std::array<uint64_t, kNumPinEnds> pins_ended{};  // by PinEnd, since start
  std::vector<Tenant> tenants;                     // by TenantIndex

  // Of those asked about. Waiting ones in about the order in which they will be let in, if nothing
  // else comes; running ones the first to be preempted last.
  int32_t num_listed_waiting = 0, num_listed_running = 0;  // with those that are not listed
  std::vector<Entry> waiting_entries, running_entries;
};

}  // namespace holdfast
