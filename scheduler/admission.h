// Who is taken in, who may run now: pure functions of counts. Blocks are asked for last, of the
// store itself, because only it knows what a prompt will find there.
#pragma once

#include <cstdint>
#include <optional>

#include "scheduler/tenant_ledger.h"

namespace holdfast {

// The scheduler's counts when a question is asked.
struct AdmissionView {
  int32_t running_sequences = 0;
  int32_t running_max = 0;       // sequences
  int32_t waiting_requests = 0;  // that have not run yet
  int32_t waiting_max = 0;       // requests
};

// Which bound had no room, as a metric label.
enum class ShedReason : uint8_t {
  kCapacity,     // as many are in as may run and wait together; refused before the scheduler saw it
  kQueue,        // waiting_max
  kTenantQueue,  // the tenant's own waiting_max
};
inline constexpr size_t kNumShedReasons = 3;
const char* ShedReasonName(ShedReason reason);

// Whether to refuse `num_requests` of one tenant, all of them, at once so that others are served. A
// queue that the next step will empty is not full: places that are free count as room, in the whole
// and for the tenant.
std::optional<ShedReason> ShouldShed(const AdmissionView& view, const TenantLoad& tenant,
                                     int32_t num_requests = 1);

// The most requests that one call can ever have admitted together: what ShouldShed takes when
// nobody else is there. More is a fault of the call, not of the moment.
int32_t RequestsAtOnceMax(int32_t running_max, int32_t waiting_max, const TenantLoad& tenant);

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
