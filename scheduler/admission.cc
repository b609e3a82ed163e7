#include "scheduler/admission.h"

#include <algorithm>

namespace holdfast {

const char* ShedReasonName(ShedReason reason) {
  switch (reason) {
    case ShedReason::kCapacity:
      return "capacity";
    case ShedReason::kQueue:
      return "queue";
    case ShedReason::kTenantQueue:
      return "tenant_queue";
  }
  return "queue";
}

std::optional<ShedReason> ShouldShed(const AdmissionView& view, const TenantLoad& tenant,
                                     int32_t num_requests) {
  const int32_t places = std::max(view.running_max - view.running_sequences, 0);
  if (view.waiting_requests + num_requests - places > view.waiting_max) return ShedReason::kQueue;
  if (tenant.waiting_max == 0) return std::nullopt;
  const int32_t tenant_places =
      tenant.running_max == 0 ? places
                              : std::min(places, std::max(tenant.running_max - tenant.running, 0));
  if (tenant.waiting + num_requests - tenant_places <= tenant.waiting_max) return std::nullopt;
  return ShedReason::kTenantQueue;
}

int32_t RequestsAtOnceMax(int32_t running_max, int32_t waiting_max, const TenantLoad& tenant) {
  const int32_t all = running_max + waiting_max;
  if (tenant.waiting_max == 0) return all;
  const int32_t tenant_places =
      tenant.running_max == 0 ? running_max : std::min(running_max, tenant.running_max);
  return std::min(all, tenant_places + tenant.waiting_max);
}

Admission MayRun(const AdmissionView& view, const TenantLoad& tenant, bool request_runs) {
  if (view.running_sequences >= view.running_max) return Admission::kWait;
  if (!request_runs && tenant.running_max > 0 && tenant.running >= tenant.running_max) {
    return Admission::kSkip;
  }
  return Admission::kRun;
}

int32_t SpareBlocks(int32_t running_sequences) { return running_sequences; }

}  // namespace holdfast
