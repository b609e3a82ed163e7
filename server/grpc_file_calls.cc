#include "server/grpc_file_calls.h"

#include <grpcpp/alarm.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/grpc_batch_codec.h"
#include "server/grpc_service.h"
#include "server/grpc_write_timer.h"
#include "server/http_status.h"

namespace holdfast {
namespace {

constexpr int64_t kPartBytes = int64_t{8} << 20;  // at least, in a part_timeout
constexpr size_t kPieceBytes = 1 << 20;           // of a download; gRPC's clients take 4 MiB

// What both are: the place in GrpcCalls, the file in memory, the pace, and one end.
template <typename Reactor, typename Message>
class FileTransfer : public Reactor,
                     public std::enable_shared_from_this<FileTransfer<Reactor, Message>> {
 public:
  explicit FileTransfer(FileCall call) : call_(std::move(call)) {}

  // The alarm may still look at it when gRPC has let go.
  void Own() { self_ = this->shared_from_this(); }
  void OnDone() final {
    GrpcCalls& calls = call_.calls;
    self_.reset();  // `this` may be gone
    calls.Leave();
  }

 protected:
  virtual void OnLate() = 0;

  void BeginMoving() {
    absl::MutexLock lock(&mutex_);
    Arm();
  }
  void Moved(size_t bytes) {
    absl::MutexLock lock(&mutex_);
    moved_ += static_cast<int64_t>(bytes);
  }
  // From here on it has the time that it takes. False: it was too late.
  [[nodiscard]] bool EndMoving() {
    absl::MutexLock lock(&mutex_);
    alarm_.reset();
    return !end_.has_value() && !looking_;
  }
  bool ended() {
    absl::MutexLock lock(&mutex_);
    return end_.has_value();
  }
  // For a reaction, or where none is awaited. The lease is free before the end is told, so that the
  // client may use it at once, and so is the memory: the call goes when its client likes.
  void End(const absl::Status& status) {
    Forget();
    EndBeside(status);
  }
  // Beside a reaction, which then finds that it has ended and forgets. The first end is the one
  // that is told.
  void EndBeside(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      if (end_.has_value()) return;
      end_ = status;
      alarm_.reset();
      if (looking_) return;  // Look tells it
    }
    Tell(status);
  }
  // The file, and with it the lease.
  void Forget() {
    std::string().swap(content_);
    message_ = Message();
    call_.lease.reset();
  }
  // `task` on the background thread, or the end.
  void Ask(BackgroundService::Task task) {
    if (!call_.background.Ask(std::move(task))) End(TooBusyForState());
  }

  FileCall call_;
  std::string content_;
  Message message_;  // being read or written

 private:
  void Tell(const absl::Status& status) {
    end_timer_.Start(call_.context, call_.calls.write_timeout());
    this->Finish(ToGrpcStatus(call_.context, status));
  }
  void Arm() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    moved_ = 0;
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(absl::ToChronoTime(absl::Now() + call_.bounds.part_timeout),
                [weak = this->weak_from_this()](bool rang) {
                  if (const auto self = weak.lock(); rang && self != nullptr) self->Look();
                });
  }
  // Rung by the alarm. While it looks, the call is not finished, so that its context is there.
  void Look() {
    {
      absl::MutexLock lock(&mutex_);
      if (alarm_ == nullptr) return;
      if (moved_ >= kPartBytes) return Arm();
      looking_ = true;
    }
    OnLate();
    std::optional<absl::Status> end;
    {
      absl::MutexLock lock(&mutex_);
      looking_ = false;
      end = end_;
    }
    if (end.has_value()) Tell(*end);
  }

  std::shared_ptr<FileTransfer> self_;  // until OnDone
  GrpcWriteTimer end_timer_;
  absl::Mutex mutex_;
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);  // while it moves
  int64_t moved_ ABSL_GUARDED_BY(mutex_) = 0;                   // bytes since it was set
  bool looking_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

class FileUpload final
    : public FileTransfer<grpc::ServerReadReactor<v1::UploadFileRequest>, v1::UploadFileRequest> {
 public:
  FileUpload(FileCall call, v1::File& response)
      : FileTransfer(std::move(call)), response_(response) {}

  void Begin() {
    BeginMoving();
    StartRead(&message_);
  }
  void OnReadDone(bool ok) override {
    if (ended()) return Forget();
    if (!ok) return Keep();
    if (const absl::Status fault = Take(); !fault.ok()) return End(fault);
    StartRead(&message_);
  }

 private:
  absl::Status Take() {
    if (wish_.has_value()) {
      if (message_.has_info()) {
        return ParameterError("info", "invalid_value",
                              "info comes once, in the first message; send content behind it");
      }
      Moved(message_.content().size());
      if (content_.size() + message_.content().size() > bytes_) return OtherLength("more");
      content_ += message_.content();
      return absl::OkStatus();
    }
    if (!message_.has_info()) {
      return ParameterError("info", "missing_required_parameter",
                            "info is missing: the first message must have it");
    }
    ASSIGN_OR_RETURN(wish_, ReadFileInfo(message_.info(), call_.bounds.file_bytes_max));
    bytes_ = static_cast<size_t>(message_.info().bytes());
    content_.reserve(bytes_);
    return absl::OkStatus();
  }

  // The client has sent all, or has gone.
  void Keep() {
    if (!EndMoving()) return Forget();
    if (call_.context.IsCancelled()) return End(absl::CancelledError("the client has left"));
    if (!wish_.has_value()) {
      return End(
          ParameterError("info", "missing_required_parameter", "info is missing: send a message"));
    }
    if (content_.size() != bytes_) return End(OtherLength(Concat(content_.size())));
    Ask([this](State& state) { End(KeepIn(state.batches())); });
  }
  absl::Status KeepIn(BatchStore& store) {
    // Nobody waits any more: nothing is kept for nobody.
    if (call_.context.IsCancelled()) return absl::CancelledError("the client has left");
    ASSIGN_OR_RETURN(const StoredFile file, KeepFile(store, call_.tenant, *wish_, content_));
    SetFile(file, response_);
    return absl::OkStatus();
  }

  absl::Status OtherLength(std::string_view came) const {
    return ParameterError("info.bytes", "invalid_value",
                          Concat("info.bytes says ", bytes_, ", ", came,
                                 " came; nothing is kept, send the file again"));
  }
  void OnLate() override {
    EndBeside(absl::DeadlineExceededError(
        Concat("less than ", kPartBytes, " bytes of the file came within ",
               absl::ToInt64Seconds(call_.bounds.part_timeout),
               " seconds; nothing is kept, send the file again")));
  }

  v1::File& response_;
  std::optional<FileWish> wish_;
  size_t bytes_ = 0;  // that were announced
};

class FileDownload final
    : public FileTransfer<grpc::ServerWriteReactor<v1::FileContent>, v1::FileContent> {
 public:
  using FileTransfer::FileTransfer;

  void Begin(const std::string& id) {
    Ask([this, id](State& state) {
      absl::StatusOr<std::string> content = state.batches().FileContent(call_.tenant, id);
      if (!content.ok()) return End(content.status());
      content_ = *std::move(content);
      BeginMoving();
      WriteNext();
    });
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return End(absl::CancelledError("the client has left or reads too slowly"));
    Moved(message_.content().size());
    WriteNext();
  }

 private:
  void WriteNext() {
    if (written_ == content_.size()) return End(absl::OkStatus());
    const size_t bytes = std::min(kPieceBytes, content_.size() - written_);
    message_.set_content(content_.data() + written_, bytes);
    written_ += bytes;
    StartWrite(&message_);
  }
  // Behind what its client does not read no status would ever be sent. OnWriteDone follows.
  void OnLate() override { call_.context.TryCancel(); }

  size_t written_ = 0;
};

}  // namespace

grpc::ServerReadReactor<v1::UploadFileRequest>* StartUpload(FileCall call, v1::File& response) {
  const auto upload = std::make_shared<FileUpload>(std::move(call), response);
  upload->Own();
  upload->Begin();
  return upload.get();
}

grpc::ServerWriteReactor<v1::FileContent>* StartDownload(FileCall call, const std::string& id) {
  const auto download = std::make_shared<FileDownload>(std::move(call));
  download->Own();
  download->Begin(id);
  return download.get();
}

}  // namespace holdfast
