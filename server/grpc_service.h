// The Generation service on gRPC's callback API. One small object a call moves what
// GenerationStream has to the wire:
//
//            +------------- OnWriteDone ------------+
//            v                                      |
//   made ► Pump ── something to say ──► StartWrite ─┘
//            |└── nothing yet ──► NotifyReady ──► Pump again, on a text worker
//            └── the stream's end ──► Finish ──► OnDone: gone
//
// At most one of these is under way at a time, hence no lock. OnCancel may come beside any of them
// and only calls GenerationStream::Cancel; the stream's end then comes by the way above.
// A write to a client that reads slowly is not done until it has read; the stream merges meanwhile
// and finally cancels. Who does not take one write, or the end, in time has its call cancelled
// (grpc_write_timer.h).
//
// gRPC swallows what a reaction throws and leaves the call hanging: nothing here throws.
//
// Thread: gRPC's and, for Pump, the text workers'; nothing blocks.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "server/authenticator.h"
#include "server/generation.h"
#include "server/grpc_calls.h"

namespace holdfast {

class Tracer;  // server/tracer.h

// A status as gRPC says it: the same code, and as trailing metadata what HTTP says of it (code,
// parameter, Retry-After). RESOURCE_EXHAUSTED also has grpc-retry-pushback-ms, by which clients
// that retry by gRPC's own policy wait as long; after UNAVAILABLE another server may be asked at
// once.
grpc::Status ToGrpcStatus(grpc::CallbackServerContext& context, const absl::Status& status);

// By the key in the call's metadata.
absl::StatusOr<Authenticated> AuthenticateCall(const grpc::CallbackServerContext& context,
                                               const Authenticator& authenticator);

class GrpcService final : public v1::Generation::CallbackService {
 public:
  // All references must outlive the service; `readiness` is called on gRPC's threads.
  GrpcService(GenerationService& service, const Authenticator& authenticator,
              std::function<Readiness()> readiness, int64_t calls_max, absl::Duration write_timeout,
              Tracer* tracer);

  GrpcCalls& calls() { return calls_; }

  grpc::ServerUnaryReactor* Chat(grpc::CallbackServerContext* context,
                                 const v1::ChatRequest* request,
                                 v1::ChatResponse* response) override;
  grpc::ServerWriteReactor<v1::ChatChunk>* ChatStream(grpc::CallbackServerContext* context,
                                                      const v1::ChatRequest* request) override;
  grpc::ServerUnaryReactor* Complete(grpc::CallbackServerContext* context,
                                     const v1::CompleteRequest* request,
                                     v1::CompleteResponse* response) override;
  grpc::ServerWriteReactor<v1::CompleteChunk>* CompleteStream(
      grpc::CallbackServerContext* context, const v1::CompleteRequest* request) override;
  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override;
  grpc::ServerWriteReactor<v1::GenerateChunk>* GenerateStream(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::Model* response) override;
  grpc::ServerUnaryReactor* Cancel(grpc::CallbackServerContext* context,
                                   const v1::CancelRequest* request,
                                   v1::CancelResponse* response) override;

 private:
  absl::StatusOr<TenantIndex> Authenticate(const grpc::CallbackServerContext& context) const;
  // By its key, if requests are taken.
  absl::StatusOr<TenantIndex> Admit(const grpc::CallbackServerContext& context) const;
  absl::Status Enter(TenantIndex tenant, const std::string& id);  // into calls_
  // Who asks and what, or why it is refused. OK has entered calls_ under the request's id.
  template <typename Request>
  absl::StatusOr<GenerationRequest> Accept(const grpc::CallbackServerContext& context,
                                           const Request& request);
  grpc::ServerUnaryReactor* FinishUnary(grpc::CallbackServerContext& context,
                                        const absl::Status& status) const;
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* StartUnary(grpc::CallbackServerContext& context, const Request& request,
                                       Response& response);
  template <typename Chunk, typename Request>
  grpc::ServerWriteReactor<Chunk>* StartStream(grpc::CallbackServerContext& context,
                                               const Request& request);

  GenerationService& service_;
  const Authenticator& authenticator_;
  const std::function<Readiness()> readiness_;
  GrpcCalls calls_;
  Tracer* const tracer_;  // null: calls are not traced
};

}  // namespace holdfast
