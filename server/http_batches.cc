#include "server/http_batches.h"

#include <boost/asio/this_coro.hpp>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/batch_requests.h"
#include "server/form_data.h"
#include "server/http_call.h"
#include "server/http_router.h"
#include "server/http_state.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

constexpr int64_t kFilesPageMax = 10'000;  // as OpenAI's

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

struct Upload {
  FileWish wish;
  std::string_view content;
};

absl::StatusOr<Upload> ReadUpload(const std::vector<FormPart>& parts) {
  constexpr FileWishNames kNames = {
      .name = "file", .purpose = "purpose", .kept_seconds = "expires_after[seconds]"};
  Upload upload;
  FileWish& wish = upload.wish;
  bool has_file = false, anchored = false;
  for (const FormPart& part : parts) {
    if (part.name == "file" && !has_file) {
      has_file = true;
      wish.name = part.filename;
      upload.content = part.content;
    } else if (part.name == kNames.purpose) {
      wish.purpose = std::string(part.content);
    } else if (part.name == kNames.kept_seconds) {
      int64_t seconds = 0;
      wish.kept_seconds = absl::SimpleAtoi(AbslView(part.content), &seconds) ? seconds : 0;
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
  if (!has_file) return ParameterError("file", "missing_required_parameter", "file is missing");
  if (anchored && !wish.kept_seconds.has_value()) {
    return ParameterError(kNames.kept_seconds, "missing_required_parameter",
                          "expires_after[seconds] is missing");
  }
  RETURN_IF_ERROR(CheckFileWish(wish, kNames));
  return upload;
}

// POST /v1/files. Read on the background thread: a form of 100 MiB would hold up everybody's
// tokens.
Work UploadWork(HttpRequest& request, const std::string& tenant) {
  const auto body = std::make_shared<const std::string>(std::move(request.body));
  return [body, type = request.content_type, tenant](State& state) -> Answer {
    ASSIGN_OR_RETURN(const std::vector<FormPart> parts, ParseFormData(type, *body));
    ASSIGN_OR_RETURN(const Upload upload, ReadUpload(parts));
    ASSIGN_OR_RETURN(const StoredFile added,
                     KeepFile(state.batches(), tenant, upload.wish, upload.content));
    return JsonReply(FileJson(added));
  };
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
      ASSIGN_OR_RETURN(const ListWish wish, ReadListWish(request, kFilesPageMax, kFilesPageMax));
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
      ASSIGN_OR_RETURN(const Json body, ParseJson(request.body));
      ASSIGN_OR_RETURN(const BatchWish wish, ReadBatchWish(body));
      return [=](State& state) -> Answer {
        ASSIGN_OR_RETURN(const Batch batch, state.batches().AddBatch(tenant, wish));
        return JsonReply(BatchJson(batch));
      };
    }
    case HttpEndpoint::kBatches: {
      ASSIGN_OR_RETURN(const ListWish wish, ReadListWish(request, 20, kBatchesPageMax));
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

}  // namespace

asio::awaitable<void> HttpBatches::Handle(HttpExchange& exchange) {
  if (batches_ == nullptr) {
    co_await exchange.Fail(ToOpenAiError(BatchesOff()));
    co_return;
  }
  const TenantIndex tenant = exchange.request.tenant;
  absl::StatusOr<Work> work = WorkOf(exchange.request, batches_->TenantName(tenant));
  if (!work.ok()) {
    co_await exchange.Fail(ToOpenAiError(work.status()));
    co_return;
  }
  const HttpEndpoint endpoint = exchange.request.route->endpoint;
  // Held by the task and by who waits for it.
  std::shared_ptr<const void> lease;
  if (endpoint == HttpEndpoint::kUploadFile || endpoint == HttpEndpoint::kFileContent) {
    absl::StatusOr<std::shared_ptr<const void>> leased = batches_->file_leases().Lease(tenant);
    if (!leased.ok()) {
      co_await exchange.Fail(ToOpenAiError(leased.status()));
      co_return;
    }
    lease = *std::move(leased);
  }
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
