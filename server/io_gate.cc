#include "server/io_gate.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace holdfast {

IoGate::~IoGate() {
  if (event_ >= 0) close(event_);
}

absl::Status IoGate::Begin(asio::io_context& io) {
  event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int awaited = event_ < 0 ? -1 : fcntl(event_, F_DUPFD_CLOEXEC, 0);
  if (awaited < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no file descriptor for the I/O thread's events: ", std::strerror(errno)));
  }
  awaited_.emplace(io, awaited);
  {
    absl::MutexLock lock(&mutex_);
    open_ = true;
  }
  Await();
  return absl::OkStatus();
}

void IoGate::Post(Task task) {
  {
    absl::MutexLock lock(&mutex_);
    if (!open_) return;
    tasks_.push_back(std::move(task));
    if (std::exchange(told_, true)) return;
  }
  const uint64_t one = 1;
  (void)!write(event_, &one, sizeof one);  // fails only where the count is at its end: it is told
}

void IoGate::Shut() {
  std::vector<Task> dropped;  // what they own goes without the lock
  {
    absl::MutexLock lock(&mutex_);
    open_ = false;
    dropped.swap(tasks_);
  }
  awaited_.reset();
}

void IoGate::Await() {
  awaited_->async_read_some(
      asio::buffer(&count_, sizeof count_),
      [gate = shared_from_this()](const boost::system::error_code& error, size_t) {
        if (error) return;  // shut
        gate->RunTasks();
        if (gate->awaited_.has_value()) gate->Await();
      });
}

void IoGate::RunTasks() {
  {
    absl::MutexLock lock(&mutex_);
    told_ = false;
    running_.swap(tasks_);
  }
  for (Task& task : running_) task();
  running_.clear();
}

}  // namespace holdfast
