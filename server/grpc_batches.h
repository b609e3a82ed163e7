// The Batches service of proto/holdfast/v1/batches.proto: what it asks of the background thread
// (background_service.h), which HTTP's /v1/files and /v1/batches ask, too.
//
// Thread: gRPC's and the background thread's; nothing blocks. Bound: the calls of GrpcCalls, the
// files of FileLeases, FileCallBounds, and kFilesPage of a list.
#pragma once

#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "holdfast/v1/batches.grpc.pb.h"
#include "server/authenticator.h"
#include "server/background_service.h"
#include "server/grpc_calls.h"
#include "server/grpc_file_calls.h"

namespace holdfast {

class GrpcBatches final : public v1::Batches::CallbackService {
 public:
  // What is passed by reference or pointer must outlive the service. `background` null: refused,
  // with the setting that they need.
  GrpcBatches(BackgroundService* background, const Authenticator& authenticator, GrpcCalls& calls,
              FileCallBounds bounds)
      : background_(background), authenticator_(authenticator), calls_(calls), bounds_(bounds) {}

  grpc::ServerReadReactor<v1::UploadFileRequest>* UploadFile(grpc::CallbackServerContext* context,
                                                             v1::File* response) override;
  grpc::ServerUnaryReactor* GetFile(grpc::CallbackServerContext* context,
                                    const v1::GetFileRequest* request, v1::File* response) override;
  grpc::ServerUnaryReactor* ListFiles(grpc::CallbackServerContext* context,
                                      const v1::ListFilesRequest* request,
                                      v1::ListFilesResponse* response) override;
  grpc::ServerWriteReactor<v1::FileContent>* DownloadFile(
      grpc::CallbackServerContext* context, const v1::DownloadFileRequest* request) override;
  grpc::ServerUnaryReactor* DeleteFile(grpc::CallbackServerContext* context,
                                       const v1::DeleteFileRequest* request,
                                       v1::DeleteFileResponse* response) override;
  grpc::ServerUnaryReactor* CreateBatch(grpc::CallbackServerContext* context,
                                        const v1::CreateBatchRequest* request,
                                        v1::Batch* response) override;
  grpc::ServerUnaryReactor* GetBatch(grpc::CallbackServerContext* context,
                                     const v1::GetBatchRequest* request,
                                     v1::Batch* response) override;
  grpc::ServerUnaryReactor* ListBatches(grpc::CallbackServerContext* context,
                                        const v1::ListBatchesRequest* request,
                                        v1::ListBatchesResponse* response) override;
  grpc::ServerUnaryReactor* CancelBatch(grpc::CallbackServerContext* context,
                                        const v1::CancelBatchRequest* request,
                                        v1::Batch* response) override;

 private:
  // Fills the response, on the background thread.
  using Work = absl::AnyInvocable<absl::Status(BatchStore&, const std::string& tenant)>;

  // By its key; OK has entered calls_.
  absl::StatusOr<TenantIndex> Enter(const grpc::CallbackServerContext& context);
  absl::StatusOr<FileCall> EnterFileCall(grpc::CallbackServerContext& context);
  // `fault`: of the request; it is told to who may ask at all, and `work` is not done.
  grpc::ServerUnaryReactor* Ask(grpc::CallbackServerContext& context, Work work,
                                const absl::Status& fault = absl::OkStatus());

  BackgroundService* const background_;
  const Authenticator& authenticator_;
  GrpcCalls& calls_;
  const FileCallBounds bounds_;
};

}  // namespace holdfast
