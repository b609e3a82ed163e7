// How much memory the process may still take, and the share of it that becomes KV blocks when the
// configuration does not say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace holdfast {

// The least of the kernel's MemAvailable and what every control group above the process (v2 or v1)
// leaves, its reclaimable file cache not counted as used. `root`: where /proc and /sys/fs/cgroup
// lie; tests have their own. kUnavailable: /proc/meminfo cannot be read.
absl::StatusOr<int64_t> FreeMemoryBytes(const std::string& root = "");

struct KvDemand {
  size_t block_bytes = 0;
  int32_t context_tokens = 0;
  int32_t running_max = 0;
};

// 40 % of what is free, but no more than `running_max` sequences of full length can use, and no
// less than one of them needs. Whole blocks. kResourceExhausted: not even that one fits.
absl::StatusOr<int64_t> DefaultKvBytes(int64_t free_bytes, const KvDemand& demand);

// The arena is mapped without being reserved, so that a size which does not fit would be noticed
// only when the process is killed, hours later. kResourceExhausted: `kv_bytes` is more than
// `free_bytes` less a twentieth, which the other parts grow into.
absl::Status CheckKvFits(int64_t kv_bytes, int64_t free_bytes);

}  // namespace holdfast
