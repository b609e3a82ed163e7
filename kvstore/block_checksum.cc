#include "kvstore/block_checksum.h"

#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>  // after xxhash.h: puts the choosing functions in the place of XXH3_*
#endif

#include <algorithm>
#include <cstring>
#include <memory>

#include "config/base/check.h"

namespace holdfast {
namespace {

// Source and target of a piece fit into 32 KiB of first-level cache. Share of memcpy's bandwidth
// out of memory: 2 KiB 53 %, 4 KiB 84 %, 8 KiB 88 %, 16 KiB 79 %, 64 KiB 78 %.
constexpr size_t kPieceBytes = 8192;
// What is no longer is copied and hashed at once, which spares the state: a small model's layer.
constexpr size_t kWholeBytes = 16384;

// The state's size is the library's own affair; one a thread, so that no block allocates one.
struct FreeState {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};
XXH3_state_t* ThreadState() {
  thread_local const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  CHECK(state != nullptr);
  return state.get();
}

}  // namespace

uint64_t BlockChecksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t CopyWithChecksum(std::span<std::byte> to, std::span<const std::byte> from) {
  CHECK(to.size() == from.size());
  // A span of nothing may point nowhere, which memcpy() is not allowed to be told.
  if (from.empty()) return BlockChecksum({});
  if (from.size() <= kWholeBytes) {
    std::memcpy(to.data(), from.data(), from.size());
    return BlockChecksum(to);
  }
  XXH3_state_t* state = ThreadState();
  XXH3_64bits_reset(state);
  for (size_t done = 0; done < from.size(); done += kPieceBytes) {
    const size_t piece = std::min(kPieceBytes, from.size() - done);
    std::memcpy(to.data() + done, from.data() + done, piece);
    // The copy is what is hashed: it is what will be used.
    XXH3_64bits_update(state, to.data() + done, piece);
  }
  return XXH3_64bits_digest(state);
}

}  // namespace holdfast
