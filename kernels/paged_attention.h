// Attention over a paged view: what the CPU twins (attention.inl, one compilation per instruction
// set) and a device's twin are asked, and how KV lies in memory. partial_attention.h is the same
// over a part of the keys.
//
// Keys are cut at multiples of 256 absolute positions; each split gives (out, lse) with its own
// maximum, splits are merged in ascending order. Sums in f32; a row's result depends on its own
// query, position, window and keys alone, and no place beyond them is read into it, so that stale
// bytes there do no harm.
#pragma once

#include <cstddef>
#include <cstdint>

namespace holdfast {

// What a number of the KV cache is stored as; layout of one head's part of a block in kv_layout.h.
//   kF16, kF32   the number, rounded to nearest even
//   kI8          a code in -127..127 for each number, and one f32 scale per token for K and one for
//                V: x ~ scale * code, scale = max|x| / 127 over the head. A token whose max|x| is
//                below 2^-100 counts as zero; one that is not finite gets codes 0 and scale NaN, so
//                that it cannot look finite.
enum class KvElement : uint8_t { kF16, kF32, kI8 };

// ln sum_j exp(score_j) over the keys that a query saw: to base e, as the name says, for twins of
// other origin give it to base 2. Minus infinity: the query saw none.
struct NaturalLse {
  float value;
};

// One tile: the query heads of one KV head, for consecutive rows of one sequence.
struct AttentionTile {
  const float* q = nullptr;  // row r, head h at q + r * q_row_stride + h * head_dim; RoPE applied
  int64_t q_row_stride = 0;  // in floats
  int32_t num_rows = 0;
  int32_t num_heads = 0;  // query heads of this KV head (group size)
  int32_t head_dim = 0;
  int32_t first_position = 0;          // of row 0; row r attends keys 0 .. first_position + r
  int32_t window = 0;                  // > 0: only the last `window` keys, itself included; 0: all
  float scale = 1.0f;                  // applied to q.k
  const std::byte* kv_base = nullptr;  // arena + offset of (layer, KV head) inside a block
  size_t kv_block_stride = 0;          // bytes from one block to the next
  const int32_t* block_table = nullptr;  // numbers of BlockIds, ceil(context / 16) entries
  KvElement kv_element = KvElement::kF16;
  float* out = nullptr;  // row r, head h at out + r * out_row_stride + h * head_dim
  int64_t out_row_stride = 0;
  NaturalLse* lse = nullptr;   // optional: lse[r * num_heads + h]
  float* workspace = nullptr;  // AttentionWorkspaceFloats(...) floats, this call's own
};

size_t AttentionWorkspaceFloats(int32_t num_rows, int32_t num_heads, int32_t head_dim);

}  // namespace holdfast
