// Reads what a service was asked, from a public trace, from clients' statistics or from a scenario,
// plain, gzip or xz, and makes of it what the options say. The kind of the file is seen from its
// content: the names of its columns, the fields of its first rows.
//
// A row that cannot be used is dropped under a reason and counted; only a file that cannot be read
// at all is an error. Equal files, options and seeds give equal workloads.
//
// Bounds: kLineBytesMax a line, kRowsMax rows, kRequestTokensMax tokens a request. Memory: the
// workload, about 200 bytes a turn.
// Thread: any; a reader keeps nothing.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "workload/workload.h"
#include "workload/workload_options.h"

namespace holdfast {

inline constexpr int64_t kRowsMax = 20'000'000;
inline constexpr int32_t kRequestTokensMax = 1 << 24;

absl::StatusOr<Workload> ReadWorkload(const std::string& path, const WorkloadOptions& options = {});

}  // namespace holdfast
