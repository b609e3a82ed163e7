// Cancels a call whose client does not take what it is sent: a piece of a stream, or the end. gRPC
// holds the call meanwhile, with what was written and its place among the calls, and the client may
// take as long as it likes. (Of who does not even read from its socket gRPC 1.51 closes the
// connection, after 20 seconds.)
//
//   idle ── Start ──► waiting ── `patience` later ──► cancelled, after which OnWriteDone and OnDone
//     ^                  |                            come
//     └───── Stop ───────┘
//
// Of a call that writes all the time one alarm a `patience` is set, not one a write.
//
// Thread: Start and Stop by one at a time.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/time/time.h"

namespace holdfast {

class GrpcWriteTimer final {
 public:
  // Before a write, or before Finish: behind that no Stop comes, and the timer goes with the call.
  void Start(grpc::CallbackServerContext& context, absl::Duration patience);
  void Stop();  // the write is done

 private:
  class Watch;
  std::shared_ptr<Watch> watch_;  // with the alarm, which may ring when the call is gone
};

}  // namespace holdfast
