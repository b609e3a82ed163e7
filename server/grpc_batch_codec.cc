#include "server/grpc_batch_codec.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/cord.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/generation.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/metadata.h"

namespace holdfast {
namespace {

constexpr FileWishNames kInfoNames = {.name = "info.filename",
                                      .purpose = "info.purpose",
                                      .kept_seconds = "info.expires_after_seconds"};

static_assert(v1::BatchStatus_MAX == static_cast<int>(kNumBatchStatuses));

v1::BatchStatus ToProto(BatchStatus status) {
  return static_cast<v1::BatchStatus>(static_cast<int>(status) + v1::BATCH_STATUS_VALIDATING);
}

// A file's name may come from a form, which has bytes; a proto has UTF-8 alone.
std::string Utf8Of(const std::string& bytes) {
  const absl::StatusOr<Json> text = ParseOwnJson(DumpJson(Json(bytes)));
  const auto* const string = text.ok() ? text->get_ptr<const std::string*>() : nullptr;
  return string != nullptr ? *string : std::string();
}

}  // namespace

absl::StatusOr<FileWish> ReadFileInfo(const v1::FileInfo& info, int64_t bytes_max) {
  FileWish wish{.name = info.filename(), .purpose = info.purpose()};
  if (info.has_expires_after_seconds()) wish.kept_seconds = info.expires_after_seconds();
  RETURN_IF_ERROR(CheckFileWish(wish, kInfoNames));
  if (!info.has_bytes()) {
    return ParameterError("info.bytes", "missing_required_parameter",
                          "info.bytes is missing: say how long the content is, so that one that "
                          "is cut on its way is known");
  }
  if (info.bytes() < 0 || info.bytes() > bytes_max) {
    return ParameterError("info.bytes", "invalid_value",
                          Concat("info.bytes must be from 0 to ", bytes_max, "; found ",
                                 info.bytes(), "; make several files"));
  }
  return wish;
}

// In OpenAI's form, which the reader of batches takes and checks.
absl::StatusOr<BatchWish> ReadBatchWish(const v1::CreateBatchRequest& from) {
  Json body = Json::object();
  if (!from.input_file_id().empty()) body["input_file_id"] = from.input_file_id();
  if (!from.endpoint().empty()) body["endpoint"] = from.endpoint();
  body["completion_window"] = from.completion_window().empty() ? "24h" : from.completion_window();
  if (!from.metadata().empty()) {
    Json& metadata = body["metadata"] = Json::object();
    for (const auto& [name, value] : from.metadata()) {
      // One too many is refused by the reader. A Json object looks through all of its names for
      // each new one: a million of them would take minutes.
      if (metadata.size() > kMetadataMax) break;
      metadata[name] = value;
    }
  }
  if (from.has_output_expires_after()) {
    body["output_expires_after"] = {{"seconds", from.output_expires_after().seconds()}};
  }
  return ReadBatchWish(body);
}

absl::StatusOr<ListWish> ReadPage(const v1::Page& page, int64_t limit, int64_t most) {
  ListWish wish{.after = page.after(), .limit = limit, .oldest_first = page.oldest_first()};
  if (page.has_limit()) {
    absl::StatusOr<int64_t> read = ReadPageLimit(Concat(page.limit()), most);
    if (!read.ok()) {
      absl::Status status = read.status();
      status.SetPayload(kErrorParamUrl, absl::Cord("page.limit"));
      return status;
    }
    wish.limit = *read;
  }
  return wish;
}

void SetFile(const StoredFile& from, v1::File& to) {
  to.set_id(from.id);
  to.set_filename(Utf8Of(from.name));
  to.set_purpose(from.purpose);
  to.set_bytes(from.bytes);
  to.set_created_unix(from.created_unix);
  if (from.expires_unix.has_value()) to.set_expires_unix(*from.expires_unix);
}

void SetBatch(const Batch& from, v1::Batch& to) {
  to.set_id(from.id);
  to.set_endpoint(from.endpoint);
  to.set_input_file_id(from.input_file);
  to.set_status(ToProto(from.status));
  to.set_total(from.total);
  to.set_completed(from.completed);
  to.set_failed(from.failed);
  to.set_output_file_id(from.output_file.value_or(""));
  to.set_error_file_id(from.error_file.value_or(""));
  for (const BatchFault& fault : from.faults) {
    v1::BatchFault& one = *to.add_faults();
    one.set_code(fault.code);
    one.set_message(fault.message);
    one.set_param(fault.param);
    one.set_line(fault.line);
  }
  if (const absl::StatusOr<Json> metadata = ParseOwnJson(from.metadata_json); metadata.ok()) {
    for (const auto& [name, value] : metadata->items()) {
      if (value.is_string()) (*to.mutable_metadata())[name] = value.get_ref<const std::string&>();
    }
  }
  to.set_expires_unix(from.expires_unix);
  const auto came = [&](BatchStatus status, void (v1::Batch::*set)(int64_t)) {
    const std::optional<int64_t>& unix_seconds = from.came_unix[static_cast<size_t>(status)];
    if (unix_seconds.has_value()) (to.*set)(*unix_seconds);
  };
  came(BatchStatus::kValidating, &v1::Batch::set_created_unix);
  came(BatchStatus::kInProgress, &v1::Batch::set_in_progress_unix);
  came(BatchStatus::kFinalizing, &v1::Batch::set_finalizing_unix);
  came(BatchStatus::kCompleted, &v1::Batch::set_completed_unix);
  came(BatchStatus::kFailed, &v1::Batch::set_failed_unix);
  came(BatchStatus::kExpired, &v1::Batch::set_expired_unix);
  came(BatchStatus::kCancelling, &v1::Batch::set_cancelling_unix);
  came(BatchStatus::kCancelled, &v1::Batch::set_cancelled_unix);
}

}  // namespace holdfast
