#include "scheduler/admission.h"

#include <algorithm>

namespace holdfast {
namespace {

int32_t FreePlaces(const AdmissionView& view) {
  return std::max(view.running_max - view.running_sequences, 0);
}

int32_t BeyondQueue(const AdmissionView& view, int32_t num_requests) {
  return view.waiting_requests + num_requests - FreePlaces(view) - view.waiting_max;
}

int32_t BeyondTenantQueue(const AdmissionView& view, const TenantLoad& tenant,
                          int32_t num_requests) {
  int32_t places = FreePlaces(view);
  if (tenant.running_max > 0) {
    places = std::min(places, std::max(tenant.running_max - tenant.running, 0));
  }
  return tenant.waiting + num_requests - places - tenant.waiting_max;
}

}  // namespace

const char* ShedReasonName(ShedReason reason) {
  switch (reason) {
    case ShedReason::kCapacity:
      return "capacity";
    case ShedReason::kQueue:
      return "queue";
    case ShedReason::kTenantQueue:
      return "tenant_queue";
    case ShedReason::kRequestRate:
      return "request_rate";
    case ShedReason::kTokenRate:
      return "token_rate";
  }
  return "queue";
}

const char* ShedMessage(ShedReason reason) {
  switch (reason) {
    case ShedReason::kRequestRate:
      return "the tenant's requests per second are used up; retry later";
    case ShedReason::kTokenRate:
      return "the tenant's tokens per minute are used up; retry later";
    default:
      return "too many requests are waiting; retry later";
  }
}

std::optional<ShedReason> ShouldShed(const AdmissionView& view, const TenantLoad& tenant,
                                     int32_t num_requests) {
  if (BeyondQueue(view, num_requests) > 0) return ShedReason::kQueue;
  if (tenant.waiting_max == 0 || BeyondTenantQueue(view, tenant, num_requests) <= 0) {
    return std::nullopt;
  }
  return ShedReason::kTenantQueue;
}

int32_t RequestsBeyond(ShedReason reason, const AdmissionView& view, const TenantLoad& tenant,
                       int32_t num_requests) {
  return std::max(1, reason == ShedReason::kQueue ? BeyondQueue(view, num_requests)
                                                  : BeyondTenantQueue(view, tenant, num_requests));
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
