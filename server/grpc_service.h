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
// A write to a client that reads slowly is not done until it has read, and the stream merges and
// finally cancels meanwhile.
//
// gRPC swallows what a reaction throws and leaves the call hanging: nothing here throws.
//
// Thread: gRPC's and, for Pump, the text workers'; nothing blocks.
#pragma once

#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "server/authenticator.h"
#include "server/generation.h"

namespace holdfast {

// Calls under way, so that shutting down can wait for them and not for those who only watch health.
class CallCount final {
 public:
  explicit CallCount(int64_t max) : max_(max) {}

  // False: as many calls as may be are under way; then no Leave.
  [[nodiscard]] bool TryEnter() ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave() ABSL_LOCKS_EXCLUDED(mutex_);
  bool WaitNone(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);  // false: `deadline` came first

 private:
  const int64_t max_;
  absl::Mutex mutex_;
  int64_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A status as gRPC says it: same code, payloads as trailing metadata.
grpc::Status ToGrpcStatus(grpc::CallbackServerContext& context, const absl::Status& status);

class GrpcService final : public v1::Generation::CallbackService {
 public:
  // All references must outlive the service; `readiness` is called on gRPC's threads.
  GrpcService(GenerationService& service, const Authenticator& authenticator,
              std::function<Readiness()> readiness, int64_t calls_max);

  CallCount& calls() { return calls_; }

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
  // Who asks and what, or why it is refused. OK has entered calls_.
  template <typename Request>
  absl::StatusOr<GenerationRequest> Accept(const grpc::CallbackServerContext& context,
                                           const Request& request);
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* StartUnary(grpc::CallbackServerContext& context, const Request& request,
                                       Response& response);
  template <typename Chunk, typename Request>
  grpc::ServerWriteReactor<Chunk>* StartStream(grpc::CallbackServerContext& context,
                                               const Request& request);

  GenerationService& service_;
  const Authenticator& authenticator_;
  const std::function<Readiness()> readiness_;
  CallCount calls_;
};

}  // namespace holdfast
