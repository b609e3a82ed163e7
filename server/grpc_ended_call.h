// A call of which nothing is left to tell but its end: refused, or answered with one message.
//
// Thread: any; End once.
#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/grpc_service.h"
#include "server/grpc_write_timer.h"

namespace holdfast {

template <typename Reactor>
class EndedCall : public Reactor {
 public:
  // `context` is the call's, which has `write_timeout` to take the end.
  EndedCall(grpc::CallbackServerContext& context, absl::Duration write_timeout)
      : context_(context), write_timeout_(write_timeout) {}

  void End(const absl::Status& status) {  // after which `this` may be gone
    timer_.Start(context_, write_timeout_);
    this->Finish(ToGrpcStatus(context_, status));
  }
  void OnDone() override { delete this; }

 private:
  grpc::CallbackServerContext& context_;
  const absl::Duration write_timeout_;
  GrpcWriteTimer timer_;
};

template <typename Reactor>
Reactor* EndCall(grpc::CallbackServerContext& context, absl::Duration write_timeout,
                 const absl::Status& status) {
  auto* call = new EndedCall<Reactor>(context, write_timeout);
  call->End(status);
  return call;
}

}  // namespace holdfast
