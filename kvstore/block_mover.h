// The device's side of a move: bytes of device blocks in and out. Implemented beside each engine,
// which owns the memory.
//
// Thread: the mover's, beside a running step: the store hands out only blocks that no step writes
// (published ones to read, fresh ones to fill).
#pragma once

#include <cstddef>
#include <span>

#include "absl/status/status.h"
#include "config/ids.h"

namespace holdfast {

class BlockMover {
 public:
  virtual ~BlockMover() = default;

  // The block's bytes where this process can address them (CPU engine), so that a tier reads and
  // writes them in place; empty where it cannot (a GPU), then CopyOut and CopyIn go through
  // staging.
  virtual std::span<std::byte> HostView(BlockId block) = 0;
  virtual absl::Status CopyOut(BlockId block, std::span<std::byte> out) = 0;
  virtual absl::Status CopyIn(BlockId block, std::span<const std::byte> in) = 0;
};

}  // namespace holdfast
