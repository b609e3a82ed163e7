#include "kvstore/disk_io_uring.h"

#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "config/base/check.h"

namespace holdfast {

struct DiskIoUring::Ring {
  io_uring ring{};
  bool open = false;

  int Open(int32_t depth) {
    const int error = io_uring_queue_init(static_cast<unsigned>(depth), &ring, 0);
    open = error == 0;
    return error;
  }
  ~Ring() {
    if (open) io_uring_queue_exit(&ring);
  }
};

DiskIoUring::DiskIoUring(int32_t depth) : depth_(depth) {}
DiskIoUring::~DiskIoUring() = default;

absl::StatusOr<std::unique_ptr<DiskIo>> DiskIoUring::Create(int32_t depth) {
  CHECK(depth > 0);
  auto io = std::unique_ptr<DiskIoUring>(new DiskIoUring(depth));
  auto ring = std::make_unique<Ring>();
  if (const int error = ring->Open(depth); error != 0) {
    return DiskError("opening an io_uring", -error);
  }
  io->GiveRing(std::move(ring));
  return io;
}

std::unique_ptr<DiskIoUring::Ring> DiskIoUring::TakeRing() {
  {
    MutexLock lock(&mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Ring> ring = std::move(idle_.back());
      idle_.pop_back();
      return ring;
    }
  }
  auto ring = std::make_unique<Ring>();
  ring->Open(depth_);
  return ring;
}

void DiskIoUring::GiveRing(std::unique_ptr<Ring> ring) {
  MutexLock lock(&mutex_);
  idle_.push_back(std::move(ring));
}

void DiskIoUring::Run(std::span<DiskTransfer> transfers) {
  std::unique_ptr<Ring> taken = TakeRing();
  if (!taken->open) {
    for (DiskTransfer& transfer : transfers) {
      transfer.status = absl::UnavailableError("the kernel gives no further io_uring");
    }
    return;
  }
  io_uring& ring = taken->ring;
  size_t next = 0;                     // transfers before it were started
  std::vector<DiskTransfer*> resumed;  // came back short
  int32_t running = 0;                 // in the ring; their memory is the kernel's
  const auto start = [&](DiskTransfer& transfer) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring);
    CHECK(entry != nullptr);  // at most depth_ are running
    const unsigned count = static_cast<unsigned>(transfer.num_pieces);
    const uint64_t offset = static_cast<uint64_t>(transfer.offset);
    if (transfer.kind == DiskTransfer::Kind::kRead) {
      io_uring_prep_readv(entry, transfer.fd, transfer.pieces.data(), count, offset);
    } else {
      io_uring_prep_writev(entry, transfer.fd, transfer.pieces.data(), count, offset);
    }
    io_uring_sqe_set_data(entry, &transfer);
    ++running;
  };
  while (running > 0 || !resumed.empty() || next < transfers.size()) {
    while (running < depth_ && !resumed.empty()) {
      start(*resumed.back());
      resumed.pop_back();
    }
    while (running < depth_ && next < transfers.size()) start(transfers[next++]);

    const int submitted = io_uring_submit_and_wait(&ring, 1);
    // Any other refusal is of arguments that we made ourselves; and what the kernel may still be
    // filling cannot be taken back, so that going on could overwrite a block later.
    CHECK(submitted >= 0 || submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY ||
          submitted == -ENOMEM);
    io_uring_cqe* done = nullptr;
    while (io_uring_peek_cqe(&ring, &done) == 0) {
      auto* transfer = static_cast<DiskTransfer*>(io_uring_cqe_get_data(done));
      const int64_t result = done->res;
      io_uring_cqe_seen(&ring, done);
      --running;
      if (!AdvanceDiskTransfer(*transfer, result)) resumed.push_back(transfer);
    }
  }
  GiveRing(std::move(taken));
}

}  // namespace holdfast
