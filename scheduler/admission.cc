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

// Each that leaves makes room for two.
int32_t BeyondShare(const AdmissionView& view, const TenantLoad& tenant, int32_t num_requests) {
  const int32_t more = num_requests - FreePlaces(view);
  const int32_t room_left = view.waiting_max - (view.waiting_requests + more);
  return (tenant.waiting + more - room_left) / 2;
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
    case ShedReason::kQueueShare:
      return "queue_share";
    case ShedReason::kQueueWait:
      return "queue_wait";
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
    case ShedReason::kQueueShare:
      return "too many of the tenant's requests are waiting; retry later";
    case ShedReason::kQueueWait:
      return "the request would wait too long; retry later";
    default:
      return "too many requests are waiting; retry later";
  }
}

std::optional<ShedReason> ShouldShed(const AdmissionView& view, const TenantLoad& tenant,
                                     int32_t num_requests) {
  if (BeyondQueue(view, num_requests) > 0) return ShedReason::kQueue;
  if (tenant.waiting_max > 0 && BeyondTenantQueue(view, tenant, num_requests) > 0) {
    return ShedReason::kTenantQueue;
  }
  if (view.several_tenants && BeyondShare(view, tenant, num_requests) > 0) {
    return ShedReason::kQueueShare;
  }
  return std::nullopt;
}

int32_t RequestsBeyond(ShedReason reason, const AdmissionView& view, const TenantLoad& tenant,
                       int32_t num_requests) {
  switch (reason) {
    case ShedReason::kQueue:
      return std::max(1, BeyondQueue(view, num_requests));
    case ShedReason::kQueueShare:
      return std::max(1, BeyondShare(view, tenant, num_requests));
    default:
      return std::max(1, BeyondTenantQueue(view, tenant, num_requests));
  }
}

int32_t RequestsAtOnceMax(const AdmissionView& view, const TenantLoad& tenant) {
  const int32_t all =
      view.running_max + (view.several_tenants ? (view.waiting_max + 1) / 2 : view.waiting_max);
  if (tenant.waiting_max == 0) return all;
  const int32_t tenant_places =
      tenant.running_max == 0 ? view.running_max : std::min(view.running_max, tenant.running_max);
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
