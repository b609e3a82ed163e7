// The Admin service of proto/holdfast/v1/admin.proto: server/admin.h over gRPC.
//
// Thread: gRPC's and the scheduler's; nothing blocks.
#pragma once

#include "absl/time/time.h"
#include "holdfast/v1/admin.grpc.pb.h"
#include "server/admin.h"
#include "server/authenticator.h"

namespace holdfast {

class GrpcAdmin final : public v1::Admin::CallbackService {
 public:
  // Admin and authenticator must outlive the service; a client has `write_timeout` for its answer.
  GrpcAdmin(const KvAdmin& admin, const Authenticator& authenticator, absl::Duration write_timeout)
      : admin_(admin), authenticator_(authenticator), write_timeout_(write_timeout) {}

  grpc::ServerUnaryReactor* GetKv(grpc::CallbackServerContext* context,
                                  const v1::GetKvRequest* request, v1::KvCache* response) override;
  grpc::ServerUnaryReactor* ListPins(grpc::CallbackServerContext* context,
                                     const v1::ListPinsRequest* request,
                                     v1::ListPinsResponse* response) override;
  grpc::ServerUnaryReactor* DropPin(grpc::CallbackServerContext* context,
                                    const v1::DropPinRequest* request,
                                    v1::DropPinResponse* response) override;
  grpc::ServerUnaryReactor* DropPins(grpc::CallbackServerContext* context,
                                     const v1::DropPinsRequest* request,
                                     v1::DropPinsResponse* response) override;
  grpc::ServerUnaryReactor* GetQueue(grpc::CallbackServerContext* context,
                                     const v1::GetQueueRequest* request,
                                     v1::Queue* response) override;

 private:
  const KvAdmin& admin_;
  const Authenticator& authenticator_;
  const absl::Duration write_timeout_;
};

}  // namespace holdfast
