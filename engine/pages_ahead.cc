#include "engine/pages_ahead.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>

namespace holdfast {
namespace {

// At once: a large page. Between two of them the thread can be told to stop.
constexpr size_t kPieceBytes = size_t{2} << 20;

// Changes no byte, whoever writes meanwhile.
bool Touch(std::span<std::byte> piece) {
#ifdef MADV_POPULATE_WRITE
  return madvise(piece.data(), piece.size(), MADV_POPULATE_WRITE) == 0;
#else
  return piece.empty();
#endif
}

void YieldToAll() {
  const sched_param param{};
  sched_setscheduler(0, SCHED_IDLE, &param);  // a wish; of the calling thread
}

}  // namespace

PagesAhead::PagesAhead(std::span<std::byte> memory, size_t ahead)
    : memory_(memory), ahead_(ahead), wanted_(std::min(ahead, memory.size())) {
  thread_ = std::thread(&PagesAhead::Run, this);
}

PagesAhead::~PagesAhead() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    news_.NotifyAll();
  }
  thread_.join();
}

void PagesAhead::InUse(size_t bytes) {
  // A large page's worth of news: most steps have none.
  if (bytes < in_use_ + kPieceBytes && bytes < memory_.size()) return;
  if (bytes <= in_use_) return;
  in_use_ = bytes;
  MutexLock lock(&mutex_);
  wanted_ = std::min(bytes + ahead_, memory_.size());
  news_.NotifyAll();
}

void PagesAhead::WaitTouched() {
  MutexLock lock(&mutex_);
  while (touched_ < wanted_) news_.Wait(&mutex_);
}

void PagesAhead::Run() {
  YieldToAll();
  size_t at = 0;
  while (true) {
    {
      MutexLock lock(&mutex_);
      touched_ = at;
      if (touched_ >= wanted_) news_.NotifyAll();
      while (!stopping_ && touched_ >= wanted_) news_.Wait(&mutex_);
      if (stopping_) return;
    }
    const std::span<std::byte> piece =
        memory_.subspan(at, std::min(kPieceBytes, memory_.size() - at));
    at = Touch(piece) ? at + piece.size() : memory_.size();
  }
}

}  // namespace holdfast
