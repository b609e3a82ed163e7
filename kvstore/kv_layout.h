// The shape of a KV block: 16 token places of all layers. Shared by the store (bytes and identity),
// the engine (where it writes) and the tiers to come.
//
// Bytes of one block, for each layer and KV head in that order:
//   K, transposed:  [head_dim][kBlockTokens]   so that a vector of scores is 16 keys wide
//   V:              [kBlockTokens][head_dim]
#pragma once

#include <cstddef>
#include <cstdint>

#include "config/limits.h"

namespace holdfast {

enum class KvDtype : uint8_t { kF16, kF32 };

constexpr int32_t KvDtypeBytes(KvDtype dtype) { return dtype == KvDtype::kF32 ? 4 : 2; }

struct KvLayout {
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  KvDtype dtype = KvDtype::kF16;

  // K and V of one layer and KV head in one block.
  size_t head_bytes() const {
    return size_t{2} * kBlockTokens * static_cast<size_t>(head_dim) * KvDtypeBytes(dtype);
  }
  size_t block_bytes() const {
    return head_bytes() * static_cast<size_t>(num_layers) * static_cast<size_t>(num_kv_heads);
  }
  bool operator==(const KvLayout&) const = default;
};

}  // namespace holdfast
