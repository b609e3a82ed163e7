// The shape of a KV block: 16 token places of all layers. Shared by the store (bytes and identity),
// the engine (where it writes) and the tiers to come.
//
// Bytes of one block, for each layer and KV head in that order, its part of the block:
//   K, transposed:  [head_dim][kBlockTokens]   so that a vector of scores is 16 keys wide
//   V:              [kBlockTokens][head_dim]
//   int8 alone:     K's scales f32 [kBlockTokens], then V's: number ~ scale * code
// The arithmetic of each is in kernels/paged_attention.h; sizes and measured losses in
// docs/kv_types.md. A head's part is a multiple of 64 bytes for every even head_dim, and so is a
// block.
//
// Scales are f32: they cannot overflow, a block's 16 are one vector, and they are 6 % of a head of
// 64; as f16 they would be 3 %.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "config/ids.h"
#include "config/limits.h"

namespace holdfast {

enum class KvDtype : uint8_t { kF16, kF32, kI8 };

// As the configuration has it, and every identity of KV that leaves the engine: "f16".
constexpr const char* KvDtypeName(KvDtype dtype) {
  switch (dtype) {
    case KvDtype::kF16:
      return "f16";
    case KvDtype::kF32:
      return "f32";
    case KvDtype::kI8:
      return "i8";
  }
  return "?";
}

constexpr std::optional<KvDtype> KvDtypeOfName(std::string_view name) {
  for (const KvDtype dtype : {KvDtype::kF16, KvDtype::kF32, KvDtype::kI8}) {
    if (name == KvDtypeName(dtype)) return dtype;
  }
  return std::nullopt;
}

// Of one number of K or V, scales aside.
constexpr int32_t KvDtypeBytes(KvDtype dtype) {
  return dtype == KvDtype::kF32 ? 4 : dtype == KvDtype::kF16 ? 2 : 1;
}

struct KvLayout {
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  KvDtype dtype = KvDtype::kF16;

  // K and V of one layer and KV head in one block.
  size_t head_bytes() const {
    const size_t scale_bytes = dtype == KvDtype::kI8 ? 2 * kBlockTokens * sizeof(float) : 0;
    return size_t{2} * kBlockTokens * static_cast<size_t>(head_dim) * KvDtypeBytes(dtype) +
           scale_bytes;
  }
  size_t block_bytes() const {
    return head_bytes() * static_cast<size_t>(num_layers) * static_cast<size_t>(num_kv_heads);
  }
  bool operator==(const KvLayout&) const = default;
};

// Token places [0, num_tokens) of a block, to be copied at the start of a step, before the step
// writes anything; copies of one step in their order. What the places behind them hold afterwards
// is undefined.
struct BlockCopy {
  BlockId from{}, to{};
  int32_t num_tokens = 0;
};

}  // namespace holdfast
