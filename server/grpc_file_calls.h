// The two calls that move a file between a client and the background thread, whole in memory under
// a lease (file_leases.h):
//
//   upload    moving, message by message ──► kept on the background thread ──► ended ──► gone
//   download  fetched on the background thread ──► moving, piece by piece  ──► ended ──► gone
//
// One that moves too little within FileCallBounds::part_timeout is ended by an alarm, beside the
// reactions: hence the lock. What is kept is as long as its info said: gRPC does not tell a
// reader's end from a client's sudden death in time.
//
// Thread: gRPC's, the alarm's and the background thread's; nothing blocks.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "holdfast/v1/batches.pb.h"
#include "server/background_service.h"
#include "server/grpc_calls.h"
#include "server/grpc_server.h"

namespace holdfast {

// A call that was let in: `calls` has been entered.
struct FileCall {
  grpc::CallbackServerContext& context;
  GrpcCalls& calls;
  BackgroundService& background;
  std::string tenant;
  std::shared_ptr<const void> lease;
  FileCallBounds bounds;
};

grpc::ServerReadReactor<v1::UploadFileRequest>* StartUpload(FileCall call, v1::File& response);
grpc::ServerWriteReactor<v1::FileContent>* StartDownload(FileCall call, const std::string& id);

}  // namespace holdfast
