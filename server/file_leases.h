// Whole files in memory, on their way in or out: a bounded number at a time, over both wires, of
// which no tenant has more than its share, so that one that sends slowly does not shut out others.
//
// Thread: any. Bound: kFilesAtOnceMax, kTenantFilesAtOnceMax.
#pragma once

#include <atomic>
#include <map>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "config/ids.h"

namespace holdfast {

inline constexpr int kFilesAtOnceMax = 8;
inline constexpr int kTenantFilesAtOnceMax = 4;  // where there are several tenants

class FileLeases final {
 public:
  void SetNumTenants(size_t num_tenants) {  // of those to come; before, one
    tenant_max_ = num_tenants > 1 ? kTenantFilesAtOnceMax : kFilesAtOnceMax;
  }

  // Given back when the last copy goes, which may be after this has gone. kUnavailable: too many
  // are on their way.
  absl::StatusOr<std::shared_ptr<const void>> Lease(TenantIndex tenant);

 private:
  struct Counts {
    absl::Mutex mutex;
    int all ABSL_GUARDED_BY(mutex) = 0;
    std::map<TenantIndex, int> of_tenant ABSL_GUARDED_BY(mutex);
  };

  std::atomic<int> tenant_max_{kFilesAtOnceMax};
  const std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
};

}  // namespace holdfast
