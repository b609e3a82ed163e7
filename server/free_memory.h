// How much memory the process may still take, and the share of it that becomes KV blocks when the
// configuration does not say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

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
// less than one of them needs (whether that fits is for the engine to find out). Whole blocks.
int64_t DefaultKvBytes(int64_t free_bytes, const KvDemand& demand);

}  // namespace holdfast
