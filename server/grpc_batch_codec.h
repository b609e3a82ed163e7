// Between the messages of proto/holdfast/v1/batches.proto and what the store of files and batches
// takes and gives. What is asked for is read and checked by the code that does it for HTTP
// (batch_requests.h), and named as it is there, or as its message names it.
//
// Thread: any; pure.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "holdfast/v1/batches.pb.h"
#include "server/batch_requests.h"
#include "server/batch_store.h"

namespace holdfast {

// kInvalidArgument, with the payloads of server/generation.h; so all that are read here.
// `bytes_max`: of the file.
absl::StatusOr<FileWish> ReadFileInfo(const v1::FileInfo& info, int64_t bytes_max);
absl::StatusOr<BatchWish> ReadBatchWish(const v1::CreateBatchRequest& from);
// `limit`: where none is asked for; at most `most`.
absl::StatusOr<ListWish> ReadPage(const v1::Page& page, int64_t limit, int64_t most);

void SetFile(const StoredFile& from, v1::File& to);
void SetBatch(const Batch& from, v1::Batch& to);

}  // namespace holdfast
