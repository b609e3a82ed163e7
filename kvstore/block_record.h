// A KV block as it is written outside the process: a header that says in full what the bytes stand
// for, then the bytes. The disk tier and the remote tier write the same header.
//
//   magic, version │ sequence, payload length and checksum │ layout │ identity │ header checksum
//
// A header is believed only if all of it holds: magic, version, its own checksum, the layout of the
// model that is served, and the chain of digests, which is computed again. Then the payload is
// believed if its checksum is the header's. Numbers are little-endian; the version changes with
// every change of the format or of what the payload means.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvstore/block_identity.h"

namespace holdfast {

inline constexpr uint32_t kRecordVersion = 1;
inline constexpr size_t kRecordHeaderBytes = 264;

// What the payload's bytes mean: SHA-256 over model and KV layout, made by who wires the store.
using LayoutDigest = std::array<uint8_t, 32>;

struct RecordHeader {
  uint64_t sequence = 0;  // counts the writes of one medium: of two records of a block, newer wins
  uint64_t payload_bytes = 0;
  uint64_t payload_checksum = 0;
  LayoutDigest layout{};
  BlockIdentity identity;
};

enum class RecordVerdict : uint8_t {
  kGood,
  kEmpty,         // all zero: nothing was written here
  kTorn,          // no magic, a wrong checksum, or an identity that contradicts itself
  kOtherVersion,  // written by another version of this program
  kOtherLayout,   // whole, but of another model or KV layout
};

// `out` has at least kRecordHeaderBytes; what is behind them is left alone.
void EncodeRecordHeader(const RecordHeader& header, std::span<std::byte> out);

// `header` is filled for kGood and kOtherLayout. Shorter input than a header is torn.
RecordVerdict DecodeRecordHeader(std::span<const std::byte> in, const LayoutDigest& layout,
                                 RecordHeader& header);

}  // namespace holdfast
