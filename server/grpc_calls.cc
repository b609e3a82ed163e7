#include "server/grpc_calls.h"

#include "config/base/check.h"

namespace holdfast {

GrpcCalls::Entry GrpcCalls::TryEnter(TenantIndex tenant, const std::string& id) {
  absl::MutexLock lock(&mutex_);
  if (count_ >= max_) return Entry::kFull;
  if (!ids_.emplace(tenant, id).second) return Entry::kIdTaken;
  ++count_;
  return Entry::kEntered;
}

absl::Status GrpcCalls::TryEnter() {
  absl::MutexLock lock(&mutex_);
  if (count_ >= max_) return Full();
  ++count_;
  return absl::OkStatus();
}

absl::Status GrpcCalls::Full() {
  return absl::ResourceExhaustedError("too many calls are under way; try again later");
}

void GrpcCalls::ReleaseId(TenantIndex tenant, const std::string& id) {
  absl::MutexLock lock(&mutex_);
  CHECK(ids_.erase(std::pair(tenant, id)) == 1);
}

void GrpcCalls::Leave() {
  absl::MutexLock lock(&mutex_);
  CHECK(--count_ >= 0);
}

bool GrpcCalls::WaitNone(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return count_ == 0; };
  return mutex_.AwaitWithDeadline(absl::Condition(&none), deadline);
}

}  // namespace holdfast
