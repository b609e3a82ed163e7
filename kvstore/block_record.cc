#include "kvstore/block_record.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "config/base/check.h"
#include "kvstore/block_checksum.h"

namespace holdfast {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

constexpr std::array<char, 8> kMagic = {'H', 'F', 'K', 'V', 'R', 'E', 'C', '\n'};

// The bytes of a header, in order and without gaps.
struct Image {
  std::array<char, 8> magic;
  uint32_t version;
  int32_t depth;
  uint64_t sequence;
  uint64_t payload_bytes;
  uint64_t payload_checksum;
  LayoutDigest layout;
  ReuseScope scope;
  BlockDigest parent;
  BlockDigest digest;
  uint64_t owner_low, owner_high;
  std::array<TokenId, kBlockTokens> tokens;
  uint64_t reserved;         // zero
  uint64_t header_checksum;  // of all before it
};
static_assert(sizeof(Image) == kRecordHeaderBytes);
static_assert(std::is_trivially_copyable_v<Image>);

uint64_t HeaderChecksum(const Image& image) {
  return BlockChecksum(std::as_bytes(std::span(&image, 1)).first(offsetof(Image, header_checksum)));
}

bool IdentityHolds(const BlockIdentity& identity) {
  if (identity.depth < 0) return false;
  if (identity.depth == 0 && identity.parent != RootDigest(identity.scope)) return false;
  return NextDigest(identity.parent, identity.tokens) == identity.digest;
}

}  // namespace

void EncodeRecordHeader(const RecordHeader& header, std::span<std::byte> out) {
  CHECK(out.size() >= kRecordHeaderBytes);
  Image image{};
  image.magic = kMagic;
  image.version = kRecordVersion;
  image.depth = header.identity.depth;
  image.sequence = header.sequence;
  image.payload_bytes = header.payload_bytes;
  image.payload_checksum = header.payload_checksum;
  image.layout = header.layout;
  image.scope = header.identity.scope;
  image.parent = header.identity.parent;
  image.digest = header.identity.digest;
  image.owner_low = header.identity.owner.low;
  image.owner_high = header.identity.owner.high;
  image.tokens = header.identity.tokens;
  image.header_checksum = HeaderChecksum(image);
  std::memcpy(out.data(), &image, sizeof(image));
}

RecordVerdict DecodeRecordHeader(std::span<const std::byte> in, const LayoutDigest& layout,
                                 RecordHeader& header) {
  if (in.size() < kRecordHeaderBytes) return RecordVerdict::kTorn;
  const std::span<const std::byte> bytes = in.first(kRecordHeaderBytes);
  if (std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; })) {
    return RecordVerdict::kEmpty;
  }
  Image image;
  std::memcpy(&image, bytes.data(), sizeof(image));
  if (image.magic != kMagic) return RecordVerdict::kTorn;
  // Before the checksum: another version may have it in another place.
  if (image.version != kRecordVersion) return RecordVerdict::kOtherVersion;
  if (image.header_checksum != HeaderChecksum(image)) return RecordVerdict::kTorn;
  header.sequence = image.sequence;
  header.payload_bytes = image.payload_bytes;
  header.payload_checksum = image.payload_checksum;
  header.layout = image.layout;
  header.identity.scope = image.scope;
  header.identity.parent = image.parent;
  header.identity.digest = image.digest;
  header.identity.owner = {.low = image.owner_low, .high = image.owner_high};
  header.identity.depth = image.depth;
  header.identity.tokens = image.tokens;
  if (header.layout != layout) return RecordVerdict::kOtherLayout;
  return IdentityHolds(header.identity) ? RecordVerdict::kGood : RecordVerdict::kTorn;
}

}  // namespace holdfast
