#include "server/grpc_end_timer.h"

#include <grpc/grpc.h>

#include <memory>

#include "absl/time/clock.h"

namespace holdfast {

void GrpcEndTimer::Set(grpc::CallbackServerContext& context, absl::Duration patience) {
  // A reference of its own, not the context, which goes behind OnDone: that may come meanwhile, and
  // on this very thread.
  grpc_call_ref(context.c_call());
  const std::shared_ptr<grpc_call> call(context.c_call(), grpc_call_unref);
  alarm_.Set(absl::ToChronoTime(absl::Now() + patience), [call](bool rang) {
    if (!rang) return;
    grpc_call_cancel_with_status(call.get(), GRPC_STATUS_CANCELLED,
                                 "the client does not take the end of its call", nullptr);
  });
}

}  // namespace holdfast
