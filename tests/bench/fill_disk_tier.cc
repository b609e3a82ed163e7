// Fills a stopped daemon's disk tier with valid blocks, so that a restart with a full one can be
// timed without computing for hours: chains of made-up tokens in the scope, for the tenant and the
// model of the first good record that the daemon has written there itself. Their payloads are
// noise: nobody asks for these tokens, and start proves headers, not payloads.
//
//   fill_disk_tier DIRECTORY BYTES_MAX     BYTES_MAX: the daemon's kv.disk.bytes
//
// Prints {"blocks": N, "live_bytes": N, "file_bytes": N}.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "config/base/page_buffer.h"
#include "kvstore/block_record.h"
#include "kvstore/disk_io.h"
#include "kvstore/disk_segment.h"
#include "kvstore/disk_tier.h"

namespace holdfast {
namespace {

constexpr int32_t kChainBlocks = 64;
constexpr size_t kBatch = 16;

// The header of the first record of any segment; of whatever layout.
std::optional<RecordHeader> FirstHeader(const std::string& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (!ParseSegmentFileName(entry.path().filename().string())) continue;
    const int file = open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;
    std::byte bytes[kRecordHeaderBytes];
    const ssize_t got = read(file, bytes, sizeof bytes);
    close(file);
    RecordHeader header;
    if (got == static_cast<ssize_t>(sizeof bytes) &&
        DecodeRecordHeader(bytes, LayoutDigest{}, header) == RecordVerdict::kOtherLayout) {
      return header;
    }
  }
  return std::nullopt;
}

// The next block of a chain, or the first of a new one.
BlockIdentity NextOf(const BlockIdentity& last, bool new_chain, int32_t number) {
  BlockIdentity next = last;
  next.depth = new_chain ? 0 : last.depth + 1;
  next.parent = new_chain ? RootDigest(last.scope) : last.digest;
  next.tokens.fill(1);
  next.tokens[0] = number;
  next.digest = NextDigest(next.parent, next.tokens);
  return next;
}

int Fill(const std::string& directory, int64_t bytes_max) {
  const std::optional<RecordHeader> sample = FirstHeader(directory);
  if (!sample) {
    std::fprintf(stderr, "%s holds no record to learn model and tenant from\n", directory.c_str());
    return 1;
  }
  const auto block_bytes = static_cast<size_t>(sample->payload_bytes);
  auto tier = DiskTier::Open({.directory = directory,
                              .bytes_max = bytes_max,
                              .block_bytes = block_bytes,
                              .layout = sample->layout});
  if (!tier.ok()) {
    std::fprintf(stderr, "%s\n", tier.status().ToString().c_str());
    return 1;
  }
  std::optional<PageBuffer> memory = PageBuffer::Map(kBatch * block_bytes);
  if (!memory) return 1;
  std::mt19937_64 noise(1);
  for (size_t at = 0; at + 8 <= kBatch * block_bytes; at += 8) {
    const uint64_t word = noise();
    std::memcpy(memory->data() + at, &word, sizeof word);
  }

  BlockIdentity last = sample->identity;
  int32_t number = 0;
  for (bool is_full = false; !is_full;) {
    std::vector<BlockIdentity> identities;
    std::vector<TierTransfer> puts;
    identities.reserve(kBatch);
    for (size_t i = 0; i < kBatch; ++i) {
      const std::optional<TierSlot> slot = (*tier)->TryReserve();
      is_full = !slot;
      if (is_full) break;
      last = NextOf(last, number % kChainBlocks == 0, number);
      ++number;
      identities.push_back(last);
      puts.push_back({.slot = *slot,
                      .identity = &identities.back(),
                      .bytes = {memory->data() + i * block_bytes, block_bytes}});
    }
    (*tier)->Put(puts);
    for (const TierTransfer& put : puts) {
      if (put.status.ok()) continue;
      std::fprintf(stderr, "%s\n", put.status.ToString().c_str());
      return 1;
    }
  }
  const int64_t blocks = (*tier)->capacity() - (*tier)->num_free();
  std::printf("{\"blocks\": %" PRId64 ", \"live_bytes\": %" PRId64 ", \"file_bytes\": %" PRId64
              "}\n",
              blocks, blocks * static_cast<int64_t>(block_bytes), (*tier)->bytes_used());
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: fill_disk_tier DIRECTORY BYTES_MAX\n");
    return 2;
  }
  return holdfast::Fill(argv[1], std::atoll(argv[2]));
}
