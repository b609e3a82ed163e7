#include "server/http_batches.h"

#include <atomic>
#include <boost/asio/this_coro.hpp>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/form_data.h"
#include "server/http_call.h"
#include "server/http_router.h"
#include "server/http_state.h"
#include "server/json_body.h"
#include "server/metadata.h"

namespace holdfast {
namespace {

constexpr int64_t kPageMax = 10'000;    // of files, as OpenAI's
constexpr int64_t kBatchPageMax = 100;  // likewise
constexpr int kLargeAtOnceMax = 8;      // uploads and downloads
constexpr size_t kFileNameBytesMax = 512;
constexpr int64_t kKeptSecondsLeast = 3600, kKeptSecondsMost = 30 * 24 * 3600;  // OpenAI's

using Answer = absl::StatusOr<HttpReply>;
// What is done on the batch thread.
using Work = std::function<Answer(State&)>;

// ---- Objects -----------------------------------------------------------------------------------

Json FileJson(const StoredFile& file) {
  Json json = Json::object();
  json["id"] = file.id;
  json["object"] = "file";
  json["bytes"] = file.bytes;
  json["created_at"] = file.created_unix;
  if (file.expires_unix.has_value()) json["expires_at"] = *file.expires_unix;
  json["filename"] = file.name;
  json["purpose"] = file.purpose;
  json["status"] = "processed";
  return json;
}

Json FaultsJson(const std::vector<BatchFault>& faults) {
  Json list = Json::array();
  for (const BatchFault& fault : faults) {
    list.push_back({{"code", fault.code},
                    {"message", fault.message},
                    {"param", fault.param.empty() ? Json() : Json(fault.param)},
                    {"line", fault.line == 0 ? Json() : Json(fault.line)}});
  }
  return {{"object", "list"}, {"data", std::move(list)}};
}

// What there is not is left out, as OpenAI's document has it.
Json BatchJson(const Batch& batch) {
  static constexpr const char* kTimes[kNumBatchStatuses] = {
      "created_at", "in_progress_at", "finalizing_at", "completed_at",
      "failed_at",  "expired_at",     "cancelling_at", "cancelled_at"};
  Json json = Json::object();
  json["id"] = batch.id;
  json["object"] = "batch";
  json["endpoint"] = batch.endpoint;
  if (!batch.faults.empty()) json["errors"] = FaultsJson(batch.faults);
  json["input_file_id"] = batch.input_file;
  json["completion_window"] = "24h";
  json["status"] = BatchStatusName(batch.status);
  if (batch.output_file.has_value()) json["output_file_id"] = *batch.output_file;
  if (batch.error_file.has_value()) json["error_file_id"] = *batch.error_file;
  for (size_t i = 0; i < kNumBatchStatuses; ++i) {
    if (batch.came_unix[i].has_value()) json[kTimes[i]] = *batch.came_unix[i];
  }
  json["expires_at"] = batch.expires_unix;
  json["request_counts"] = {
      {"total", batch.total}, {"completed", batch.completed}, {"failed", batch.failed}};
  const absl::StatusOr<Json> metadata = ParseOwnJson(batch.metadata_json);
  json["metadata"] = metadata.ok() ? *metadata : Json();
  return json;
}

template <typename T>
HttpReply ListReply(const Listed<T>& listed, Json (*to_json)(const T&)) {
  Json json = Json::object();
  json["object"] = "list";
  json["data"] = Json::array();
  for (const T& entry : listed.entries) json["data"].push_back(to_json(entry));
  if (!listed.entries.empty()) {
    json["first_id"] = listed.entries.front().id;
    json["last_id"] = listed.entries.back().id;
  }
  json["has_more"] = listed.has_more;
  return JsonReply(json);
}

// ---- Requests ----------------------------------------------------------------------------------

absl::StatusOr<int64_t> KeptSeconds(std::string_view param, int64_t seconds) {
  if (seconds < kKeptSecondsLeast || seconds > kKeptSecondsMost) {
    return ParameterError(AbslView(param), "invalid_value",
                          Concat(param, " must be from ", kKeptSecondsLeast, " to ",
                                 kKeptSecondsMost, " seconds; found ", seconds));
  }
  return seconds;
}

struct Upload {
  const FormPart* file = nullptr;
  std::optional<int64_t> kept_seconds;
};

absl::StatusOr<Upload> ReadUpload(const std::vector<FormPart>& parts) {
  Upload upload;
  std::string purpose;
  bool anchored = false;
  for (const FormPart& part : parts) {
    if (part.name == "file" && upload.file == nullptr) {
      upload.file = &part;
    } else if (part.name == "purpose") {
      purpose = std::string(part.content);
    } else if (part.name == "expires_after[seconds]") {
      int64_t seconds = 0;
      if (!absl::SimpleAtoi(AbslView(part.content), &seconds)) seconds = 0;
      ASSIGN_OR_RETURN(upload.kept_seconds, KeptSeconds(part.name, seconds));
    } else if (part.name == "expires_after[anchor]") {
      anchored = true;
      if (part.content != "created_at") {
        return ParameterError(part.name, "invalid_value",
                              "expires_after[anchor] must be created_at");
      }
    } else {
      return ParameterError(
          part.name, "unknown_parameter",
          Concat("Unrecognized or repeated request argument supplied: ", part.name.substr(0, 128)));
    }
  }
  if (upload.file == nullptr) {
    return ParameterError("file", "missing_required_parameter", "file is missing");
  }
  if (anchored && !upload.kept_seconds.has_value()) {
    return ParameterError("expires_after[seconds]", "missing_required_parameter",
                          "expires_after[seconds] is missing");
  }
  if (upload.file->filename.size() > kFileNameBytesMax) {
    return ParameterError("file", "string_too_long",
                          Concat("the file's name has more than ", kFileNameBytesMax, " bytes"));
  }
  if (purpose != "batch") {
    return ParameterError(
        "purpose", purpose.empty() ? "missing_required_parameter" : "invalid_value",
        Concat("purpose must be batch, which is what this server takes files for; found ",
               purpose.empty() ? "none" : purpose.substr(0, 64)));
  }
  return upload;
}

// POST /v1/files. Read on the background thread: a form of 100 MiB would hold up everybody's
// tokens.
Work UploadWork(HttpRequest& request, const std::string& tenant) {
  const auto body = std::make_shared<const std::string>(std::move(request.body));
  return [body, type = request.content_type, tenant](State& state) -> Answer {
    ASSIGN_OR_RETURN(const std::vector<FormPart> parts, ParseFormData(type, *body));
    ASSIGN_OR_RETURN(const Upload upload, ReadUpload(parts));
    const std::string& name = upload.file->filename;
    ASSIGN_OR_RETURN(const StoredFile added,
                     state.batches().AddFile(tenant, name.empty() ? "file" : name, "batch",
                                             upload.file->content, upload.kept_seconds));
    return JsonReply(FileJson(added));
  };
}

absl::StatusOr<BatchWish> ReadBatchWish(const std::string& body) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(body));
  JsonFields fields(json, "");
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
    JsonFields inner(*kept, "output_expires_after");
    if (inner.String("anchor").value_or("created_at") != "created_at") {
      inner.Fail("anchor", "invalid_value", "anchor must be created_at");
    }
    if (const auto seconds = inner.Integer("seconds")) {
      ASSIGN_OR_RETURN(wish.output_kept_seconds,
                       KeptSeconds("output_expires_after.seconds", *seconds));
    } else {
      inner.Missing("seconds");
    }
    RETURN_IF_ERROR(inner.Finish());
  }
  RETURN_IF_ERROR(fields.Finish());
  return wish;
}

HttpReply DeletedReply(const std::string& id) {
  Json json = Json::object();
  json["id"] = id;
  json["object"] = "file";
  json["deleted"] = true;
  return JsonReply(json);
}

// What a request means, or why it is refused.
absl::StatusOr<Work> WorkOf(HttpRequest& request, const std::string& tenant) {
  const std::string id = request.param;
  switch (request.route->endpoint) {
    case HttpEndpoint::kUploadFile:
      return UploadWork(request, tenant);
    case HttpEndpoint::kFiles: {
      ASSIGN_OR_RETURN(const ListWish wish, ReadListWish(request, kPageMax, kPageMax));
      const std::string purpose = QueryValue(request.query, "purpose");
      return [=](State& state) -> Answer {
        ASSIGN_OR_RETURN(const Listed<StoredFile> files,
                         state.batches().ListFiles(tenant, purpose, wish));
        return ListReply(files, FileJson);
      };
    }
    case HttpEndpoint::kFile:
      return [=](State& state) -> Answer {
        ASSIGN_OR_RETURN(const StoredFile file, state.batches().FindFile(tenant, id));
        return JsonReply(FileJson(file));
      };
    case HttpEndpoint::kFileContent:
      return [=](State& state) -> Answer {
        ASSIGN_OR_RETURN(std::string content, state.batches().FileContent(tenant, id));
        return HttpReply{.body = std::move(content), .content_type = "application/octet-stream"};
      };
    case HttpEndpoint::kDeleteFile:
      return [=](State& state) -> Answer {
        RETURN_IF_ERROR(state.batches().DeleteFile(tenant, id));
        return DeletedReply(id);
      };
    case HttpEndpoint::kCreateBatch: {
      ASSIGN_OR_RETURN(const BatchWish wish, ReadBatchWish(request.body));
      return [=](State& state) -> Answer {
        ASSIGN_OR_RETURN(const Batch batch, state.batches().AddBatch(tenant, wish));
        return JsonReply(BatchJson(batch));
      };
    }
    case HttpEndpoint::kBatches: {
      ASSIGN_OR_RETURN(const ListWish wish, ReadListWish(request, 20, kBatchPageMax));
      return [=](State& state) -> Answer {
        ASSIGN_OR_RETURN(const Listed<Batch> batches, state.batches().ListBatches(tenant, wish));
        return ListReply(batches, BatchJson);
      };
    }
    case HttpEndpoint::kBatch:
      return [=](State& state) -> Answer {
        ASSIGN_OR_RETURN(const Batch batch, state.batches().FindBatch(tenant, id));
        return JsonReply(BatchJson(batch));
      };
    default:  // kCancelBatch
      return [=](State& state) -> Answer {
        ASSIGN_OR_RETURN(const Batch batch, state.batches().CancelBatch(tenant, id));
        return JsonReply(BatchJson(batch));
      };
  }
}

// A whole file in memory, until it is kept or sent; held by the task and by who waits for it.
class LargeLease final {
 public:
  LargeLease(std::shared_ptr<std::atomic<int>> count, bool counts)
      : count_(std::move(count)), amount_(counts ? 1 : 0) {
    count_->fetch_add(amount_);
  }
  ~LargeLease() { count_->fetch_sub(amount_); }
  LargeLease(const LargeLease&) = delete;

 private:
  const std::shared_ptr<std::atomic<int>> count_;
  const int amount_;
};

}  // namespace

asio::awaitable<void> HttpBatches::Handle(HttpExchange& exchange) {
  if (batches_ == nullptr) {
    co_await exchange.Fail(HttpError(
        501, "batches_off",
        "this server keeps no files and batches; its operator turns them on with state.path "
        "(--state FILE)"));
    co_return;
  }
  absl::StatusOr<Work> work =
      WorkOf(exchange.request, batches_->TenantName(exchange.request.tenant));
  if (!work.ok()) {
    co_await exchange.Fail(ToOpenAiError(work.status()));
    co_return;
  }
  const HttpEndpoint endpoint = exchange.request.route->endpoint;
  const bool is_large =
      endpoint == HttpEndpoint::kUploadFile || endpoint == HttpEndpoint::kFileContent;
  if (is_large && num_large_->load() >= kLargeAtOnceMax) {
    co_await exchange.Fail(HttpError(
        503, "overloaded", "too many files are being sent and fetched; try again shortly"));
    co_return;
  }
  const auto lease = std::make_shared<const LargeLease>(num_large_, is_large);
  const auto ask = [work = *std::move(work), lease](State& state,
                                                    const TextCaller& caller) -> Answer {
    // Nobody waits any more: nothing is kept for nobody.
    if (caller.gone->load()) return absl::CancelledError("the client has left");
    return work(state);
  };
  const std::optional<HttpReply> reply =
      co_await AskState<HttpReply>(exchange, gate_, timeout_, *batches_, ask);
  if (reply.has_value()) co_await exchange.Reply(*reply);
}

}  // namespace holdfast
