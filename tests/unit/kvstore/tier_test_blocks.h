// Blocks for the tests of the tiers: any (chain, depth) gives a lawful identity, and any seed gives
// bytes of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvstore/block_identity.h"

namespace holdfast {

// The block at `depth` of the sequence whose tokens are made of `chain`, in the scope `scope`.
inline BlockIdentity TestIdentity(uint32_t chain, int32_t depth = 0, uint8_t scope = 1) {
  BlockIdentity identity;
  identity.scope.fill(scope);
  identity.owner = {.low = scope, .high = 7};
  identity.digest = RootDigest(identity.scope);
  for (identity.depth = 0;; ++identity.depth) {
    identity.parent = identity.digest;
    for (size_t i = 0; i < identity.tokens.size(); ++i) {
      identity.tokens[i] = static_cast<TokenId>((chain * 31 + i) % 49152);
    }
    identity.digest = NextDigest(identity.parent, identity.tokens);
    if (identity.depth == depth) return identity;
  }
}

inline void FillTestBytes(uint64_t seed, std::span<std::byte> bytes) {
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (std::byte& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<std::byte>(state >> 56);
  }
}

inline std::vector<std::byte> TestBytes(uint64_t seed, size_t size) {
  std::vector<std::byte> bytes(size);
  FillTestBytes(seed, bytes);
  return bytes;
}

}  // namespace holdfast
