#include "server/grpc_service.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "config/base/clock.h"
#include "config/base/status_macros.h"
#include "server/grpc_codec.h"
#include "server/grpc_ended_call.h"
#include "server/grpc_write_timer.h"
#include "server/http_status.h"
#include "server/request_validator.h"
#include "server/session_headers.h"
#include "server/tracer.h"

namespace holdfast {
namespace {

// Statuses travel in headers, which proxies bound at some kilobytes; ours may quote the caller.
constexpr size_t kStatusMessageBytesMax = 2048;

std::string_view MetadataOf(const grpc::CallbackServerContext& context, const char* name) {
  const auto found = context.client_metadata().find(name);
  if (found == context.client_metadata().end()) return {};
  return {found->second.data(), found->second.size()};
}

// As over HTTP, one that is there twice is as if it were not there.
std::string_view TraceParentOf(const grpc::CallbackServerContext& context) {
  return context.client_metadata().count("traceparent") == 1 ? MetadataOf(context, "traceparent")
                                                             : std::string_view();
}

std::string_view KeyOf(const grpc::CallbackServerContext& context) {
  constexpr std::string_view kBearer = "bearer ";
  const std::string_view authorization = MetadataOf(context, "authorization");
  if (absl::StartsWithIgnoreCase({authorization.data(), authorization.size()},
                                 {kBearer.data(), kBearer.size()})) {
    return authorization.substr(kBearer.size());
  }
  return MetadataOf(context, "x-api-key");
}

// What every generation call is: its place in GrpcCalls, the streams that it moves to the wire, one
// but for Embed, and the ways in which both end.
template <typename Reactor>
class GenerationCall : public Reactor {
 public:
  void Begin(std::vector<std::shared_ptr<GenerationStream>> streams) {
    streams_ = std::move(streams);
    Pump();
  }
  void Begin(std::shared_ptr<GenerationStream> stream) { Begin(std::vector{std::move(stream)}); }

  void OnCancel() final {
    for (const auto& stream : streams_) stream->Cancel();
  }
  void OnDone() final {
    GrpcCalls& calls = calls_;
    delete this;
    calls.Leave();
  }

 protected:
  // `calls` has been entered for `request`.
  GenerationCall(grpc::CallbackServerContext& context, GrpcCalls& calls,
                 const GenerationRequest& request)
      : head_{.id = request.wire_id,
              .model = request.model,
              .created_unix = absl::ToUnixSeconds(request.arrival)},
        echo_(request.echo),
        context_(context),
        calls_(calls),
        tenant_(request.tenant) {}

  // `this` may be gone when this returns, and when Wait or End does.
  virtual void Pump() = 0;
  void Wait(size_t index = 0) {
    streams_[index]->NotifyReady([this] { Pump(); });
  }
  void End(const absl::Status& status) {
    ReleaseId();
    StartTimer();
    this->Finish(ToGrpcStatus(context_, status));
  }
  void ReleaseId() { calls_.ReleaseId(tenant_, head_.id); }  // once, before the client is told
  // Before each write and the end.
  void StartTimer() { timer_.Start(context_, calls_.write_timeout()); }
  void StopTimer() { timer_.Stop(); }

  GenerationStream& stream(size_t index = 0) { return *streams_[index]; }

  const GrpcAnswerHead head_;
  const bool echo_;

 private:
  grpc::CallbackServerContext& context_;
  GrpcCalls& calls_;
  const TenantIndex tenant_;
  GrpcWriteTimer timer_;
  std::vector<std::shared_ptr<GenerationStream>> streams_;
};

// Answered whole.
template <typename Response>
class UnaryCall final : public GenerationCall<grpc::ServerUnaryReactor> {
 public:
  UnaryCall(grpc::CallbackServerContext& context, GrpcCalls& calls,
            const GenerationRequest& request, Response& response)
      : GenerationCall(context, calls, request), response_(response) {
    SetHead(head_, response_);
    for (int32_t i = 0; i < request.num_choices; ++i) {
      Append({.choice = i}, *response_.add_choices());
    }
  }

 private:
  void Pump() override {
    while (std::optional<GenerationEvent> event = stream().TryNext()) {
      if (auto* done = std::get_if<GenerationDone>(&*event)) {
        if (done->status.ok()) SetUsage(*done, *response_.mutable_usage());
        return End(done->status);
      }
      if (auto* delta = std::get_if<ChoiceDelta>(&*event)) {
        const int32_t index = delta->choice;
        Append(std::move(*delta), *response_.mutable_choices(index));
      } else {
        SetPrompt(std::get<PromptInfo>(*std::move(event)), echo_, response_);
      }
    }
    Wait();
  }

  Response& response_;
};

// Answered whole, of as many streams as there are inputs: read one after the other, since each
// holds its few events until then.
class EmbedCall final : public GenerationCall<grpc::ServerUnaryReactor> {
 public:
  EmbedCall(grpc::CallbackServerContext& context, GrpcCalls& calls,
            const std::vector<GenerationRequest>& requests, v1::EmbedResponse& response)
      : GenerationCall(context, calls, requests.front()), response_(response) {
    SetHead(head_, response_);
    for (size_t i = 0; i < requests.size(); ++i) response_.add_embeddings();
  }

 private:
  void Pump() override {
    while (next_ < static_cast<size_t>(response_.embeddings_size())) {
      std::optional<GenerationEvent> event = stream(next_).TryNext();
      if (!event.has_value()) return Wait(next_);
      if (auto* done = std::get_if<GenerationDone>(&*event)) {
        if (!done->status.ok()) return End(done->status);  // the other streams go with this
        usage_.prompt_tokens += done->prompt_tokens;
        usage_.cached_tokens += done->cached_tokens;
        ++next_;
      } else if (auto* info = std::get_if<PromptInfo>(&*event)) {
        response_.mutable_embeddings(static_cast<int>(next_))
            ->mutable_values()
            ->Add(info->embedding.begin(), info->embedding.end());
      }
    }
    SetUsage(usage_, *response_.mutable_usage());
    End(absl::OkStatus());
  }

  v1::EmbedResponse& response_;
  size_t next_ = 0;  // stream, and embedding
  GenerationDone usage_;
};

// Answered in pieces.
template <typename Chunk>
class StreamCall final : public GenerationCall<grpc::ServerWriteReactor<Chunk>> {
  using Base = GenerationCall<grpc::ServerWriteReactor<Chunk>>;

 public:
  StreamCall(grpc::CallbackServerContext& context, GrpcCalls& calls,
             const GenerationRequest& request)
      : Base(context, calls, request) {}

  void OnWriteDone(bool ok) override {
    this->StopTimer();
    if (ok) return Pump();
    this->stream().Cancel();
    this->End(absl::CancelledError("the client is gone or reads too slowly"));
  }

 private:
  void Pump() override {
    chunk_.Clear();
    bool has_news = false;
    while (!done_.has_value()) {
      std::optional<GenerationEvent> event = this->stream().TryNext();
      if (!event.has_value()) break;
      if (auto* delta = std::get_if<ChoiceDelta>(&*event)) {
        Append(std::move(*delta), *chunk_.add_choices());
        has_news = true;
      } else if (auto* prompt = std::get_if<PromptInfo>(&*event)) {
        has_news = SetPrompt(std::move(*prompt), this->echo_, chunk_) || has_news;
      } else {
        done_ = std::get<GenerationDone>(*std::move(event));
      }
    }
    if (has_news) {
      SetHead(this->head_, chunk_);
      this->StartTimer();
      this->StartWrite(&chunk_);
    } else if (!done_.has_value()) {
      this->Wait();
    } else if (!done_->status.ok()) {
      this->End(done_->status);
    } else {
      SetHead(this->head_, chunk_);
      SetUsage(*done_, *chunk_.mutable_usage());
      this->ReleaseId();
      this->StartTimer();
      this->StartWriteAndFinish(&chunk_, grpc::WriteOptions(), grpc::Status::OK);
    }
  }

  Chunk chunk_;  // being written
  std::optional<GenerationDone> done_;
};

absl::Status IdTaken(const std::string& id) {
  absl::Status status = absl::AlreadyExistsError(
      absl::StrCat("options.request_id '", id,
                   "' names a call of yours that is still running; give another, or none to have "
                   "one drawn"));
  status.SetPayload(kErrorParamUrl, absl::Cord("options.request_id"));
  return status;
}

const char* WhyNotReady(Readiness readiness) {
  switch (readiness) {
    case Readiness::kReady:
    case Readiness::kLoading:
      return "the model is being loaded; try again in a moment";
    case Readiness::kFailing:
      return "the engine has failed again and again; ask another server, or try again in some "
             "seconds";
    case Readiness::kLeaving:
    case Readiness::kDraining:
      return "the daemon is stopping; ask another one";
  }
  return "";
}

}  // namespace

grpc::Status ToGrpcStatus(grpc::CallbackServerContext& context, const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const OpenAiError error = ToOpenAiError(status);
  if (!error.code.empty()) context.AddTrailingMetadata("holdfast-error-code", error.code);
  if (!error.param.empty()) context.AddTrailingMetadata("holdfast-error-param", error.param);
  if (const std::optional<int> seconds = error.retry_after_seconds) {
    context.AddTrailingMetadata("retry-after", std::to_string(*seconds));
    if (absl::IsResourceExhausted(status)) {
      context.AddTrailingMetadata("grpc-retry-pushback-ms",
                                  std::to_string(int64_t{1000} * *seconds));
    }
  }
  // The two enumerations have the same numbers by design of absl::StatusCode.
  return {static_cast<grpc::StatusCode>(status.raw_code()),
          std::string(status.message().substr(0, kStatusMessageBytesMax))};
}

GrpcService::GrpcService(GenerationService& service, const Authenticator& authenticator,
                         std::function<Readiness()> readiness, int64_t calls_max,
                         absl::Duration write_timeout, Tracer* tracer)
    : service_(service),
      authenticator_(authenticator),
      readiness_(std::move(readiness)),
      calls_(calls_max, write_timeout),
      tracer_(tracer) {}

absl::StatusOr<Authenticated> AuthenticateCall(const grpc::CallbackServerContext& context,
                                               const Authenticator& authenticator) {
  return authenticator.Authenticate(KeyOf(context));
}

absl::StatusOr<TenantIndex> GrpcService::Authenticate(
    const grpc::CallbackServerContext& context) const {
  ASSIGN_OR_RETURN(const Authenticated caller, AuthenticateCall(context, authenticator_));
  return caller.tenant;
}

absl::StatusOr<TenantIndex> GrpcService::Admit(const grpc::CallbackServerContext& context) const {
  ASSIGN_OR_RETURN(const TenantIndex tenant, Authenticate(context));
  if (const Readiness readiness = readiness_(); !TakesRequests(readiness)) {
    absl::Status status = absl::UnavailableError(WhyNotReady(readiness));
    status.SetPayload(kRetryAfterUrl, absl::Cord("5"));
    return status;
  }
  return tenant;
}

absl::Status GrpcService::Enter(TenantIndex tenant, const std::string& id) {
  switch (calls_.TryEnter(tenant, id)) {
    case GrpcCalls::Entry::kEntered:
      break;
    case GrpcCalls::Entry::kFull:
      return GrpcCalls::Full();
    case GrpcCalls::Entry::kIdTaken:
      return IdTaken(id);
  }
  return absl::OkStatus();
}

template <typename Request>
absl::StatusOr<GenerationRequest> GrpcService::Accept(const grpc::CallbackServerContext& context,
                                                      const Request& request) {
  ASSIGN_OR_RETURN(const TenantIndex tenant, Admit(context));
  const std::string_view session =
      SessionOfHeaders([&context](const char* name) { return MetadataOf(context, name); });
  ASSIGN_OR_RETURN(GenerationRequest accepted, Decode(request, service_.model_info(), session));
  accepted.tenant = tenant;
  accepted.arrival = SteadyNow();
  if (tracer_ != nullptr) accepted.trace = tracer_->Begin(TraceParentOf(context));
  RETURN_IF_ERROR(Enter(tenant, accepted.wire_id));
  return accepted;
}

grpc::ServerUnaryReactor* GrpcService::FinishUnary(grpc::CallbackServerContext& context,
                                                   const absl::Status& status) const {
  return EndCall<grpc::ServerUnaryReactor>(context, calls_.write_timeout(), status);
}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* GrpcService::StartUnary(grpc::CallbackServerContext& context,
                                                  const Request& request, Response& response) {
  absl::StatusOr<GenerationRequest> accepted = Accept(context, request);
  if (!accepted.ok()) return FinishUnary(context, accepted.status());
  auto* call = new UnaryCall<Response>(context, calls_, *accepted, response);
  call->Begin(service_.Start(*std::move(accepted)));
  return call;
}

template <typename Chunk, typename Request>
grpc::ServerWriteReactor<Chunk>* GrpcService::StartStream(grpc::CallbackServerContext& context,
                                                          const Request& request) {
  absl::StatusOr<GenerationRequest> accepted = Accept(context, request);
  if (!accepted.ok()) {
    return EndCall<grpc::ServerWriteReactor<Chunk>>(context, calls_.write_timeout(),
                                                    accepted.status());
  }
  auto* call = new StreamCall<Chunk>(context, calls_, *accepted);
  call->Begin(service_.Start(*std::move(accepted)));
  return call;
}

grpc::ServerUnaryReactor* GrpcService::Chat(grpc::CallbackServerContext* context,
                                            const v1::ChatRequest* request,
                                            v1::ChatResponse* response) {
  return StartUnary(*context, *request, *response);
}

grpc::ServerWriteReactor<v1::ChatChunk>* GrpcService::ChatStream(
    grpc::CallbackServerContext* context, const v1::ChatRequest* request) {
  return StartStream<v1::ChatChunk>(*context, *request);
}

grpc::ServerUnaryReactor* GrpcService::Complete(grpc::CallbackServerContext* context,
                                                const v1::CompleteRequest* request,
                                                v1::CompleteResponse* response) {
  return StartUnary(*context, *request, *response);
}

grpc::ServerWriteReactor<v1::CompleteChunk>* GrpcService::CompleteStream(
    grpc::CallbackServerContext* context, const v1::CompleteRequest* request) {
  return StartStream<v1::CompleteChunk>(*context, *request);
}

grpc::ServerUnaryReactor* GrpcService::Generate(grpc::CallbackServerContext* context,
                                                const v1::GenerateRequest* request,
                                                v1::GenerateResponse* response) {
  return StartUnary(*context, *request, *response);
}

grpc::ServerWriteReactor<v1::GenerateChunk>* GrpcService::GenerateStream(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return StartStream<v1::GenerateChunk>(*context, *request);
}

grpc::ServerUnaryReactor* GrpcService::Embed(grpc::CallbackServerContext* context,
                                             const v1::EmbedRequest* request,
                                             v1::EmbedResponse* response) {
  const absl::StatusOr<TenantIndex> tenant = Admit(*context);
  if (!tenant.ok()) return FinishUnary(*context, tenant.status());
  absl::StatusOr<std::vector<GenerationRequest>> requests = Decode(*request, service_.model_info());
  absl::Status status = requests.status();
  if (status.ok()) status = Enter(*tenant, requests->front().wire_id);
  if (!status.ok()) return FinishUnary(*context, status);
  std::optional<TraceContext> trace;
  if (tracer_ != nullptr) trace = tracer_->Begin(TraceParentOf(*context));
  for (GenerationRequest& one : *requests) {
    one.tenant = *tenant;
    one.arrival = SteadyNow();
    one.trace = trace;
  }
  auto* call = new EmbedCall(*context, calls_, *requests, *response);
  call->Begin(service_.StartAll(*std::move(requests)));
  return call;
}

grpc::ServerUnaryReactor* GrpcService::ListModels(grpc::CallbackServerContext* context,
                                                  const v1::ListModelsRequest*,
                                                  v1::ListModelsResponse* response) {
  const absl::StatusOr<TenantIndex> tenant = Authenticate(*context);
  if (tenant.ok()) SetModel(service_.model_info(), *response->add_models());
  return FinishUnary(*context, tenant.status());
}

grpc::ServerUnaryReactor* GrpcService::GetModel(grpc::CallbackServerContext* context,
                                                const v1::GetModelRequest* request,
                                                v1::Model* response) {
  absl::Status status = Authenticate(*context).status();
  if (status.ok()) status = CheckModel(request->name(), service_.model_info());
  if (status.ok()) SetModel(service_.model_info(), *response);
  return FinishUnary(*context, status);
}

grpc::ServerUnaryReactor* GrpcService::Cancel(grpc::CallbackServerContext* context,
                                              const v1::CancelRequest* request,
                                              v1::CancelResponse* response) {
  const absl::StatusOr<TenantIndex> tenant = Authenticate(*context);
  if (tenant.ok()) response->set_found(service_.CancelByWireId(*tenant, request->id()));
  return FinishUnary(*context, tenant.status());
}

}  // namespace holdfast
