// What a caller asks of files and batches (batch_store.h), whatever its wire: read and checked here
// once, so that HTTP and gRPC take and refuse alike.
//
// Errors: kInvalidArgument with the parameter, kUnimplemented of BatchesOff.
//
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/batch_store.h"
#include "server/json_body.h"

namespace holdfast {

inline constexpr int64_t kBatchesPageMax = 100;  // as OpenAI's

// Told where no state is kept; names the setting.
absl::Status BatchesOff();

// A file that is to be kept.
struct FileWish {
  std::string name, purpose;
  std::optional<int64_t> kept_seconds;
};
// How the caller's wire names its fields.
struct FileWishNames {
  const char *name = "", *purpose = "", *kept_seconds = "";
};
absl::Status CheckFileWish(const FileWish& wish, const FileWishNames& names);
// `wish` has been checked.
absl::StatusOr<StoredFile> KeepFile(BatchStore& store, const std::string& tenant,
                                    const FileWish& wish, std::string_view content);

// OpenAI's body of POST /v1/batches.
absl::StatusOr<BatchWish> ReadBatchWish(const Json& body);

// How many entries a page of a list may have, as the caller wrote it: from 1 to `most`.
absl::StatusOr<int64_t> ReadPageLimit(std::string_view text, int64_t most);

}  // namespace holdfast
