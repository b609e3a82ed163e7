#include "server/grpc_write_timer.h"

#include <grpc/grpc.h>
#include <grpcpp/alarm.h>

#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "config/base/clock.h"

namespace holdfast {

class GrpcWriteTimer::Watch final : public std::enable_shared_from_this<Watch> {
 public:
  // Has a reference of its own, not the context, which goes behind OnDone: that may come while it
  // cancels, and on the same thread.
  Watch(grpc_call* call, absl::Duration patience) : call_(call), patience_(patience) {
    grpc_call_ref(call_);
  }
  ~Watch() { grpc_call_unref(call_); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void Start() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    deadline_ = SteadyNow() + patience_;
    if (alarm_ == nullptr) Arm();
  }
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    deadline_.reset();
  }

 private:
  void Arm() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(absl::ToChronoTime(absl::Now() + (*deadline_ - SteadyNow())),
                [weak = weak_from_this()](bool rang) {
                  if (const auto self = weak.lock(); rang && self != nullptr) self->Look();
                });
  }
  void Look() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      alarm_.reset();
      if (!deadline_.has_value()) return;
      if (SteadyNow() < *deadline_) return Arm();
    }
    // Not within the lock: OnWriteDone may come on this thread.
    grpc_call_cancel_with_status(call_, GRPC_STATUS_CANCELLED,
                                 "the client does not take what it is sent", nullptr);
  }

  grpc_call* const call_;
  const absl::Duration patience_;
  absl::Mutex mutex_;
  std::optional<absl::Time> deadline_ ABSL_GUARDED_BY(mutex_);  // of what is being written
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);  // at deadline_, or before
};

void GrpcWriteTimer::Start(grpc::CallbackServerContext& context, absl::Duration patience) {
  if (watch_ == nullptr) watch_ = std::make_shared<Watch>(context.c_call(), patience);
  watch_->Start();
}

void GrpcWriteTimer::Stop() { watch_->Stop(); }

}  // namespace holdfast
