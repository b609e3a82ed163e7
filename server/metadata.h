// The `metadata` that clients give what is kept: some short texts by name, kept for them and shown.
//
// Thread: any; pure.
#pragma once

#include "absl/status/status.h"
#include "server/json_body.h"

namespace holdfast {

inline constexpr int kMetadataMax = 16;
inline constexpr size_t kMetadataKeyBytesMax = 64, kMetadataValueBytesMax = 512;

// kInvalidArgument, naming `metadata`. `metadata`: an object.
absl::Status CheckMetadata(const Json& metadata);

}  // namespace holdfast
