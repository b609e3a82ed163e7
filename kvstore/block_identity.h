// What the bytes of a block stand for, in full: goes with them wherever they lie, so that they can
// be proven when they come back (promise 3).
//
//   digest(root)  = SHA-256(scope)
//   digest(block) = SHA-256(digest(parent) || tokens)          tokens: 16 x int32, little-endian
//
// The short BlockKey finds candidates fast and proves nothing; inside the process tokens and parent
// are compared (prefix_index.h). What comes from a file or from another machine has no parent to
// compare with, hence the cryptographic chain: equal digests mean equal scope and equal tokens from
// the first on.
#pragma once

#include <array>
#include <cstdint>

#include "config/ids.h"
#include "config/limits.h"
#include "kvstore/block_key.h"
#include "kvstore/reuse_scope.h"

namespace holdfast {

using BlockDigest = std::array<uint8_t, 32>;

// Whose block it is when shares of a tier are counted: a hash of the tenant's name, since indices
// change with the configuration and blocks on disk outlive it.
struct OwnerTag {
  uint64_t low = 0, high = 0;
  bool operator==(const OwnerTag&) const = default;
};

struct BlockIdentity {
  ReuseScope scope{};
  BlockDigest parent{};  // of the block before; for the first, of the root
  BlockDigest digest{};
  OwnerTag owner;
  int32_t depth = 0;  // blocks before it in its sequence
  std::array<TokenId, kBlockTokens> tokens{};
};

BlockDigest RootDigest(const ReuseScope& scope);
BlockDigest NextDigest(const BlockDigest& parent, BlockTokens tokens);

}  // namespace holdfast
