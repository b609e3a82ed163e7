// Who is taken in, who may run now: pure functions of counts. Blocks are asked for last, of the
// store itself, because only it knows what a prompt will find there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "scheduler/tenant_ledger.h"

namespace holdfast {

// The scheduler's counts when a question is asked.
struct AdmissionView {
  int32_t running_sequences = 0;
  int32_t running_max = 0;       // sequences
  int32_t waiting_requests = 0;  // that have not run yet
  int32_t waiting_max = 0;       // requests
  bool several_tenants = false;
};

// Which bound had no room, as a metric label.
enum class ShedReason : uint8_t {
  kCapacity,     // as many are in as may run and wait together; refused before the scheduler saw it
  kQueue,        // waiting_max
  kTenantQueue,  // the tenant's own waiting_max
  kQueueShare,   // what of waiting_max a tenant may fill while others may come
  kQueueWait,    // it would wait longer than queue_wait_max
  kRequestRate,  // its requests_per_second (rate_limit.h)
  kTokenRate,    // its tokens_per_minute
};
inline constexpr size_t kNumShedReasons = 7;
const char* ShedReasonName(ShedReason reason);
const char* ShedMessage(ShedReason reason);  // for the client

// 429: why, and when to come again.
struct Refusal {
  ShedReason reason{};
  absl::Duration retry_after;
};

// Whether to refuse `num_requests` of one tenant, all of them, at once so that others are served. A
// queue that the next step will empty is not full: places that are free count as room, in the whole
// and for the tenant. Of several tenants each may have as many waiting as it leaves room for
// others: a flood of one leaves half of the queue, those of k tenants a (k+1)th part.
//
// Source of the last: dynamic thresholds (Choudhury and Hahne, IEEE/ACM Transactions on Networking
// 6, 1998), with a factor of 1.
std::optional<ShedReason> ShouldShed(const AdmissionView& view, const TenantLoad& tenant,
                                     int32_t num_requests = 1);

// After ShouldShed has found the queue full, or the tenant's: how many must leave it until the
// requests fit; at least 1.
int32_t RequestsBeyond(ShedReason reason, const AdmissionView& view, const TenantLoad& tenant,
                       int32_t num_requests);

// The most requests that one call can ever have admitted together: what ShouldShed takes when
// nobody else is there. More is a fault of the call, not of the moment.
int32_t RequestsAtOnceMax(const AdmissionView& view, const TenantLoad& tenant);

enum class Admission : uint8_t {
  kRun,   // if there are blocks
  kSkip,  // its tenant runs all it may: let others pass
  kWait,  // no place: and nobody behind it gets one first
};

// `request_runs`: another choice of the same request runs, so that it counts already.
Admission MayRun(const AdmissionView& view, const TenantLoad& tenant, bool request_runs);

// Blocks that must stay available when a sequence is admitted: one for each that runs, so that it
// is not admitted only to be preempted by their next tokens. None when nothing runs: then one
// longest sequence fits, and the oldest always gets on.
int32_t SpareBlocks(int32_t running_sequences);

}  // namespace holdfast
