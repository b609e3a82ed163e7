// The calls under way on the gRPC port: how many, and those that generate under which ids.
//
//   TryEnter ──► running, id taken ──ReleaseId──► ending, id free ──Leave──► gone
//
// An id is free again before its caller hears of the end, so that it may be used at once; the call
// itself is gone a little later, when gRPC has let go of it; its client has `write_timeout` to take
// the end (grpc_write_timer.h).
//
// Thread: any.    Bound: `max` calls.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "config/ids.h"

namespace holdfast {

class GrpcCalls final {
 public:
  GrpcCalls(int64_t max, absl::Duration write_timeout) : max_(max), write_timeout_(write_timeout) {}

  absl::Duration write_timeout() const { return write_timeout_; }

  // What is told to whom is refused because it is full.
  static absl::Status Full();

  enum class Entry : uint8_t { kEntered, kFull, kIdTaken };
  // Unless kEntered nothing has changed. Ids are a tenant's own: two tenants may use the same.
  [[nodiscard]] Entry TryEnter(TenantIndex tenant, const std::string& id)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // A call without an id. kResourceExhausted: full.
  absl::Status TryEnter() ABSL_LOCKS_EXCLUDED(mutex_);
  void ReleaseId(TenantIndex tenant, const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave() ABSL_LOCKS_EXCLUDED(mutex_);
  bool WaitNone(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);  // false: `deadline` came first

 private:
  const int64_t max_;
  const absl::Duration write_timeout_;
  absl::Mutex mutex_;
  int64_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_set<std::pair<TenantIndex, std::string>> ids_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace holdfast
