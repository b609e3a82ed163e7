// Ends a call that is finished but not gone. gRPC holds it, with its answer and its place among the
// calls, until its client has taken the end, for which it may take as long as it likes. (Of who
// does not even read from its socket gRPC 1.51 closes the connection, after 20 seconds.)
//
//   Set ──► Finish ──► OnDone: goes with the call
//    └── `patience` later ──► cancelled, after which OnDone comes
//
// Thread: any.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include "absl/time/time.h"

namespace holdfast {

class GrpcEndTimer final {
 public:
  // Once, before Finish.
  void Set(grpc::CallbackServerContext& context, absl::Duration patience);

 private:
  grpc::Alarm alarm_;
};

}  // namespace holdfast
