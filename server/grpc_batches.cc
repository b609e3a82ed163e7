#include "server/grpc_batches.h"

#include <utility>

#include "config/base/status_macros.h"
#include "server/batch_requests.h"
#include "server/grpc_batch_codec.h"
#include "server/grpc_ended_call.h"
#include "server/grpc_service.h"

namespace holdfast {
namespace {

constexpr int64_t kBatchesPage = 20;  // unless asked otherwise
// Likewise, and at most: a thousand files with the longest names are less than the 4 MiB that
// gRPC's clients take.
constexpr int64_t kFilesPage = 1000;

// A call that the background thread answers.
class AskedCall final : public EndedCall<grpc::ServerUnaryReactor> {
 public:
  AskedCall(grpc::CallbackServerContext& context, GrpcCalls& calls)
      : EndedCall(context, calls.write_timeout()), calls_(calls) {}

  void OnDone() override {
    GrpcCalls& calls = calls_;
    delete this;
    calls.Leave();
  }

 private:
  GrpcCalls& calls_;
};

}  // namespace

absl::StatusOr<TenantIndex> GrpcBatches::Enter(const grpc::CallbackServerContext& context) {
  ASSIGN_OR_RETURN(const Authenticated caller, AuthenticateCall(context, authenticator_));
  const TenantIndex tenant = caller.tenant;
  if (background_ == nullptr) return BatchesOff();
  RETURN_IF_ERROR(calls_.TryEnter());
  return tenant;
}

absl::StatusOr<FileCall> GrpcBatches::EnterFileCall(grpc::CallbackServerContext& context) {
  ASSIGN_OR_RETURN(const TenantIndex tenant, Enter(context));
  absl::StatusOr<std::shared_ptr<const void>> lease = background_->file_leases().Lease(tenant);
  if (!lease.ok()) {
    calls_.Leave();
    return lease.status();
  }
  return FileCall{.context = context,
                  .calls = calls_,
                  .background = *background_,
                  .tenant = background_->TenantName(tenant),
                  .lease = *std::move(lease),
                  .bounds = bounds_};
}

grpc::ServerUnaryReactor* GrpcBatches::Ask(grpc::CallbackServerContext& context, Work work,
                                           const absl::Status& fault) {
  absl::StatusOr<TenantIndex> tenant = Enter(context);
  if (tenant.ok() && !fault.ok()) {
    calls_.Leave();
    tenant = fault;
  }
  if (!tenant.ok()) {
    return EndCall<grpc::ServerUnaryReactor>(context, calls_.write_timeout(), tenant.status());
  }
  auto* call = new AskedCall(context, calls_);
  const bool asked =
      background_->Ask([call, &context, work = std::move(work),
                        tenant = background_->TenantName(*tenant)](State& state) mutable {
        // Nobody waits any more: nothing is kept for nobody.
        const absl::Status status = context.IsCancelled()
                                        ? absl::CancelledError("the client has left")
                                        : work(state.batches(), tenant);
        call->End(status);
      });
  if (!asked) call->End(TooBusyForState());
  return call;
}

// ---- Files -------------------------------------------------------------------------------------

grpc::ServerReadReactor<v1::UploadFileRequest>* GrpcBatches::UploadFile(
    grpc::CallbackServerContext* context, v1::File* response) {
  absl::StatusOr<FileCall> call = EnterFileCall(*context);
  if (call.ok()) return StartUpload(*std::move(call), *response);
  return EndCall<grpc::ServerReadReactor<v1::UploadFileRequest>>(*context, calls_.write_timeout(),
                                                                 call.status());
}

grpc::ServerWriteReactor<v1::FileContent>* GrpcBatches::DownloadFile(
    grpc::CallbackServerContext* context, const v1::DownloadFileRequest* request) {
  absl::StatusOr<FileCall> call = EnterFileCall(*context);
  if (call.ok()) return StartDownload(*std::move(call), request->id());
  return EndCall<grpc::ServerWriteReactor<v1::FileContent>>(*context, calls_.write_timeout(),
                                                            call.status());
}

grpc::ServerUnaryReactor* GrpcBatches::GetFile(grpc::CallbackServerContext* context,
                                               const v1::GetFileRequest* request,
                                               v1::File* response) {
  return Ask(*context, [=](BatchStore& store, const std::string& tenant) -> absl::Status {
    ASSIGN_OR_RETURN(const StoredFile file, store.FindFile(tenant, request->id()));
    SetFile(file, *response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* GrpcBatches::ListFiles(grpc::CallbackServerContext* context,
                                                 const v1::ListFilesRequest* request,
                                                 v1::ListFilesResponse* response) {
  return Ask(*context, [=](BatchStore& store, const std::string& tenant) -> absl::Status {
    ASSIGN_OR_RETURN(const ListWish wish, ReadPage(request->page(), kFilesPage, kFilesPage));
    ASSIGN_OR_RETURN(const Listed<StoredFile> files,
                     store.ListFiles(tenant, request->purpose(), wish));
    for (const StoredFile& file : files.entries) SetFile(file, *response->add_files());
    response->set_has_more(files.has_more);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* GrpcBatches::DeleteFile(grpc::CallbackServerContext* context,
                                                  const v1::DeleteFileRequest* request,
                                                  v1::DeleteFileResponse*) {
  return Ask(*context, [=](BatchStore& store, const std::string& tenant) {
    return store.DeleteFile(tenant, request->id());
  });
}

// ---- Batches -----------------------------------------------------------------------------------

grpc::ServerUnaryReactor* GrpcBatches::CreateBatch(grpc::CallbackServerContext* context,
                                                   const v1::CreateBatchRequest* request,
                                                   v1::Batch* response) {
  const absl::StatusOr<BatchWish> wish = ReadBatchWish(*request);
  return Ask(
      *context,
      [=](BatchStore& store, const std::string& tenant) -> absl::Status {
        ASSIGN_OR_RETURN(const Batch batch, store.AddBatch(tenant, *wish));
        SetBatch(batch, *response);
        return absl::OkStatus();
      },
      wish.status());
}

grpc::ServerUnaryReactor* GrpcBatches::GetBatch(grpc::CallbackServerContext* context,
                                                const v1::GetBatchRequest* request,
                                                v1::Batch* response) {
  return Ask(*context, [=](BatchStore& store, const std::string& tenant) -> absl::Status {
    ASSIGN_OR_RETURN(const Batch batch, store.FindBatch(tenant, request->id()));
    SetBatch(batch, *response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* GrpcBatches::ListBatches(grpc::CallbackServerContext* context,
                                                   const v1::ListBatchesRequest* request,
                                                   v1::ListBatchesResponse* response) {
  return Ask(*context, [=](BatchStore& store, const std::string& tenant) -> absl::Status {
    ASSIGN_OR_RETURN(const ListWish wish, ReadPage(request->page(), kBatchesPage, kBatchesPageMax));
    ASSIGN_OR_RETURN(const Listed<Batch> batches, store.ListBatches(tenant, wish));
    for (const Batch& batch : batches.entries) SetBatch(batch, *response->add_batches());
    response->set_has_more(batches.has_more);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* GrpcBatches::CancelBatch(grpc::CallbackServerContext* context,
                                                   const v1::CancelBatchRequest* request,
                                                   v1::Batch* response) {
  return Ask(*context, [=](BatchStore& store, const std::string& tenant) -> absl::Status {
    ASSIGN_OR_RETURN(const Batch batch, store.CancelBatch(tenant, request->id()));
    SetBatch(batch, *response);
    return absl::OkStatus();
  });
}

}  // namespace holdfast
