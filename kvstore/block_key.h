// The name under which a block is found again: a chained 128-bit hash over the reuse scope and all
// tokens up to the block's end. It finds candidates; it proves nothing (prefix_index.h does).
//
//   root(scope) = XXH3_128(scope)
//   next(parent, tokens) = XXH3_128(parent || tokens)        tokens: 16 x int32, little-endian
//
// Source: hash chains over blocks are common to the paged engines; XXH3 is Yann Collet's xxHash
// 0.8, whose output is stable across versions and machines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "config/ids.h"
#include "config/limits.h"
#include "kvstore/reuse_scope.h"

namespace holdfast {

using BlockTokens = std::span<const TokenId, kBlockTokens>;

struct BlockKey {
  uint64_t low = 0, high = 0;
  bool operator==(const BlockKey&) const = default;
};

// How keys are made. The one of the daemon is Xxh3BlockKeys(); tests hand in weak ones, to show
// that a collision costs a miss and never a wrong hit.
struct BlockKeyFunctions {
  BlockKey (*root)(const ReuseScope& scope) = nullptr;
  BlockKey (*next)(const BlockKey& parent, BlockTokens tokens) = nullptr;
};

BlockKeyFunctions Xxh3BlockKeys();

}  // namespace holdfast
