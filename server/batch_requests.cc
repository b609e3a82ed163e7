#include "server/batch_requests.h"

#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/generation.h"
#include "server/http_status.h"
#include "server/metadata.h"

namespace holdfast {
namespace {

constexpr size_t kFileNameBytesMax = 512;
constexpr int64_t kKeptSecondsLeast = 3600, kKeptSecondsMost = 30 * 24 * 3600;  // OpenAI's

absl::Status CheckKeptSeconds(int64_t seconds, std::string_view param) {
  if (seconds >= kKeptSecondsLeast && seconds <= kKeptSecondsMost) return absl::OkStatus();
  return ParameterError(AbslView(param), "invalid_value",
                        Concat(param, " must be from ", kKeptSecondsLeast, " to ", kKeptSecondsMost,
                               " seconds; found ", seconds));
}

// The field `output_expires_after`.
absl::StatusOr<int64_t> ReadOutputKept(const Json& kept) {
  JsonFields inner(kept, "output_expires_after");
  if (inner.String("anchor").value_or("created_at") != "created_at") {
    inner.Fail("anchor", "invalid_value", "anchor must be created_at");
  }
  const std::optional<int64_t> seconds = inner.Integer("seconds");
  if (!seconds.has_value()) inner.Missing("seconds");
  RETURN_IF_ERROR(inner.Finish());
  RETURN_IF_ERROR(CheckKeptSeconds(*seconds, "output_expires_after.seconds"));
  return *seconds;
}

}  // namespace

absl::Status BatchesOff() {
  absl::Status status = absl::UnimplementedError(
      "this server keeps no files and batches; its operator turns them on with state.path "
      "(--state FILE)");
  status.SetPayload(kErrorCodeUrl, absl::Cord("batches_off"));
  return status;
}

absl::Status CheckFileWish(const FileWish& wish, const FileWishNames& names) {
  if (wish.kept_seconds.has_value()) {
    RETURN_IF_ERROR(CheckKeptSeconds(*wish.kept_seconds, names.kept_seconds));
  }
  if (wish.name.size() > kFileNameBytesMax) {
    return ParameterError(names.name, "string_too_long",
                          Concat("the file's name has more than ", kFileNameBytesMax, " bytes"));
  }
  if (wish.purpose != "batch") {
    return ParameterError(
        names.purpose, wish.purpose.empty() ? "missing_required_parameter" : "invalid_value",
        Concat(names.purpose, " must be batch, which is what this server takes files for; found ",
               wish.purpose.empty() ? "none" : wish.purpose.substr(0, 64)));
  }
  return absl::OkStatus();
}

absl::StatusOr<StoredFile> KeepFile(BatchStore& store, const std::string& tenant,
                                    const FileWish& wish, std::string_view content) {
  return store.AddFile(tenant, wish.name.empty() ? "file" : wish.name, wish.purpose, content,
                       wish.kept_seconds);
}

absl::StatusOr<BatchWish> ReadBatchWish(const Json& body) {
  JsonFields fields(body, "");
  BatchWish wish;
  for (const auto& [name, slot] :
       {std::pair{"input_file_id", &wish.input_file}, std::pair{"endpoint", &wish.endpoint}}) {
    if (auto text = fields.String(name)) {
      *slot = *std::move(text);
    } else {
      fields.Missing(name);
    }
  }
  if (fields.ok() && !IsBatchEndpoint(wish.endpoint)) {
    fields.Fail("endpoint", "invalid_value",
                Concat("endpoint must be one of ", kBatchEndpoints, "; found ",
                       wish.endpoint.substr(0, 128)));
  }
  const auto window = fields.String("completion_window");
  if (!window.has_value()) {
    fields.Missing("completion_window");
  } else if (*window != "24h") {
    fields.Fail("completion_window", "invalid_value", "completion_window must be 24h");
  }
  if (const Json* metadata = fields.Object("metadata")) {
    RETURN_IF_ERROR(CheckMetadata(*metadata));
    wish.metadata_json = DumpJson(*metadata);
  }
  if (const Json* kept = fields.Object("output_expires_after")) {
    ASSIGN_OR_RETURN(wish.output_kept_seconds, ReadOutputKept(*kept));
  }
  RETURN_IF_ERROR(fields.Finish());
  return wish;
}

absl::StatusOr<int64_t> ReadPageLimit(std::string_view text, int64_t most) {
  int64_t limit = 0;
  if (absl::SimpleAtoi(AbslView(text), &limit) && limit >= 1 && limit <= most) return limit;
  return ParameterError(
      "limit", "invalid_value",
      Concat("limit must be a number from 1 to ", most, "; found ", text.substr(0, 32)));
}

}  // namespace holdfast
