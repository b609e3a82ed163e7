#include "scheduler/admission.h"

#include <algorithm>

namespace holdfast {

bool ShouldShed(const AdmissionView& view, const TenantLoad& tenant) {
  const int32_t places = std::max(view.running_max - view.running_sequences, 0);
  if (view.waiting_requests - places >= view.waiting_max) return true;
  if (tenant.waiting_max == 0) return false;
  const int32_t tenant_places =
      tenant.running_max == 0 ? places
                              : std::min(places, std::max(tenant.running_max - tenant.running, 0));
  return tenant.waiting - tenant_places >= tenant.waiting_max;
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
