#include "server/file_leases.h"

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "server/generation.h"

namespace holdfast {

absl::StatusOr<std::shared_ptr<const void>> FileLeases::Lease(TenantIndex tenant) {
  absl::MutexLock lock(&counts_->mutex);
  int& own = counts_->of_tenant[tenant];
  if (counts_->all >= kFilesAtOnceMax || own >= tenant_max_) {
    absl::Status status =
        absl::UnavailableError("too many files are being sent and fetched; try again shortly");
    status.SetPayload(kErrorCodeUrl, absl::Cord("overloaded"));
    return status;
  }
  ++counts_->all;
  ++own;
  return std::shared_ptr<const void>(counts_.get(), [counts = counts_, tenant](const void*) {
    absl::MutexLock lock(&counts->mutex);
    --counts->all;
    --counts->of_tenant[tenant];
  });
}

}  // namespace holdfast
