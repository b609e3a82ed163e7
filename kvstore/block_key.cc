#include "kvstore/block_key.h"

#include <xxhash.h>

#include <bit>
#include <cstring>

namespace holdfast {
namespace {

static_assert(std::endian::native == std::endian::little,
              "keys are hashed as they lie in memory, and lie the same way everywhere");

BlockKey ToKey(XXH128_hash_t hash) { return {.low = hash.low64, .high = hash.high64}; }

BlockKey Root(const ReuseScope& scope) { return ToKey(XXH3_128bits(scope.data(), scope.size())); }

BlockKey Next(const BlockKey& parent, BlockTokens tokens) {
  unsigned char bytes[sizeof(uint64_t) * 2 + sizeof(TokenId) * kBlockTokens];
  std::memcpy(bytes, &parent.low, sizeof parent.low);
  std::memcpy(bytes + 8, &parent.high, sizeof parent.high);
  std::memcpy(bytes + 16, tokens.data(), tokens.size_bytes());
  return ToKey(XXH3_128bits(bytes, sizeof bytes));
}

}  // namespace

BlockKeyFunctions Xxh3BlockKeys() { return {.root = &Root, .next = &Next}; }

}  // namespace holdfast
