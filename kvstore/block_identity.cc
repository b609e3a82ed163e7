#include "kvstore/block_identity.h"

#include <openssl/sha.h>

#include <bit>
#include <cstring>

namespace holdfast {

static_assert(std::endian::native == std::endian::little,
              "digests are taken of tokens as they lie in memory, and lie the same way everywhere");

BlockDigest RootDigest(const ReuseScope& scope) {
  BlockDigest digest;
  SHA256(scope.data(), scope.size(), digest.data());
  return digest;
}

BlockDigest NextDigest(const BlockDigest& parent, BlockTokens tokens) {
  unsigned char bytes[sizeof(BlockDigest) + sizeof(TokenId) * kBlockTokens];
  std::memcpy(bytes, parent.data(), parent.size());
  std::memcpy(bytes + parent.size(), tokens.data(), tokens.size_bytes());
  BlockDigest digest;
  SHA256(bytes, sizeof bytes, digest.data());
  return digest;
}

}  // namespace holdfast
