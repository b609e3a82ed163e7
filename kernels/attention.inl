// Attention of one tile over a paged view, or over a part of it. Written once over the lanes of the
// including path.
//
// Keys are cut at absolute multiples of kSplitKeys. For one query and one split, over the keys that
// it may see, ascending:
//   s_j = (sum_d q_d K_jd) * scale        fma over d ascending, one lane a key
//   m = max s_j,  p_j = exp(s_j - m),  l = sum p_j       16 lanes across blocks, then the tree
//   o_d = (sum_j p_j V_jd) / l            fma over j ascending
//   lse = m + log l
// and splits are merged in ascending order by (o, lse). Nothing of it depends on the other queries
// of the tile; what a query may not see is never multiplied, so that stale bytes (infinities, NaN)
// in places beyond a row's context cannot reach its result.
//
// With int8 KV the products are of codes, and a token's scales are applied where they cost one
// multiplication a key: s_j = (sum_d q_d code_jd) * k_scale_j * scale, and p_j v_scale_j, rounded,
// stands for p_j in the sum for o (not in l).
//
// The queries of a tile are its rows' heads, row-major: query = row * num_heads + head. They share
// each block's conversion to f32.

namespace holdfast {
namespace {

inline constexpr int32_t kSplitKeys = 256;
inline constexpr int32_t kPlaces = 16;  // token places of a block (kv_layout.h)
inline constexpr int32_t kSplitBlocks = kSplitKeys / kPlaces;

struct Range {
  int32_t begin, end;
  bool empty() const { return begin >= end; }
};

inline size_t Size(int32_t count) { return static_cast<size_t>(count); }

inline Range Intersect(Range a, Range b) { return {Most(a.begin, b.begin), Least(a.end, b.end)}; }

// Carves up AttentionTile::workspace; every part a multiple of 16 floats.
struct AttentionScratch {
  float* queries;  // [query][head_dim]
  float* scores;   // [query][kSplitKeys], then the p_j
  float* part;     // [query][padded_dim]: o of this split, before the division
  float* out;      // [query][padded_dim]: merged
  float* sum;      // [query]: l of this split
  float* most;     // [query]: m of this split
  float* lse;      // [query]: merged
  float* block;    // [16 * padded_dim]: K or V of one block in f32
};

inline int32_t PaddedTo16(int32_t count) { return (count + 15) / 16 * 16; }

inline AttentionScratch Carve(const AttentionTile& tile) {
  const int64_t queries = int64_t{tile.num_rows} * tile.num_heads;
  const int64_t padded_dim = PaddedTo16(tile.head_dim);
  AttentionScratch scratch;
  float* at = tile.workspace;
  const auto take = [&at](int64_t floats) {
    float* begin = at;
    at += (floats + 15) / 16 * 16;
    return begin;
  };
  scratch.queries = take(queries * tile.head_dim);
  scratch.scores = take(queries * kSplitKeys);
  scratch.part = take(queries * padded_dim);
  scratch.out = take(queries * padded_dim);
  scratch.sum = take(queries);
  scratch.most = take(queries);
  scratch.lse = take(queries);
  scratch.block = take(kPlaces * padded_dim);
  return scratch;
}

[[gnu::always_inline]] inline F32x16 LoadAs(const float* p) { return Load(p); }
[[gnu::always_inline]] inline F32x16 LoadAs(const uint16_t* p) { return LoadHalf(p); }
[[gnu::always_inline]] inline F32x16 LoadAs(const int8_t* p) { return LoadI8(p); }

inline int32_t ElementBytes(KvElement element) {
  return element == KvElement::kF32 ? 4 : element == KvElement::kF16 ? 2 : 1;
}

// 16 numbers as they are stored, in f32; of kI8, the codes.
[[gnu::always_inline]] inline F32x16 LoadElements(KvElement element, const std::byte* p) {
  switch (element) {
    case KvElement::kF32:
      return Load(reinterpret_cast<const float*>(p));
    case KvElement::kF16:
      return LoadHalf(p);
    case KvElement::kI8:
      break;
  }
  return LoadI8(reinterpret_cast<const int8_t*>(p));
}

// The scales of one head's part of an int8 block, behind its codes: 16 for K, then 16 for V.
inline const float* KeyScales(const std::byte* head_block, int32_t head_dim) {
  return reinterpret_cast<const float*>(head_block + size_t{2} * kPlaces * Size(head_dim));
}
inline const float* ValueScales(const std::byte* head_block, int32_t head_dim) {
  return KeyScales(head_block, head_dim) + kPlaces;
}

// What merging two partial results that both saw keys multiplies each by, and the merged lse.
struct MergeShares {
  F32x16 old, part;
  float lse;
};
inline MergeShares SharesOf(float lse, float part_lse) {
  const float most = Most(lse, part_lse);
  const float old_weight = ExpOne(lse - most), part_weight = ExpOne(part_lse - most);
  const float weights = old_weight + part_weight;
  return {Splat(old_weight / weights), Splat(part_weight / weights), most + LogOne(weights)};
}
inline F32x16 Merged(const MergeShares& shares, F32x16 old, F32x16 part) {
  return Fma(part, shares.part, Mul(old, shares.old));
}

// c[i][16 * m ..] (+)= sum over j of a[i][j] * b[m][j][0..16), j ascending, for kCount rows of a
// and c and kColumns vectors of 16. b is f32, or f16 or int8 converted on the way.
template <int kCount, int kColumns, bool kFromZero, typename B>
void MultiplyTile(const float* a, int64_t a_stride, const B* const (&b)[kColumns], int64_t b_stride,
                  int32_t depth, float* c, int64_t c_stride) {
  F32x16 acc[kCount * kColumns];
  ForEach<kCount * kColumns>(HOLDFAST_EACH {
    acc[i] = kFromZero ? Zero() : Load(c + i / kColumns * c_stride + i % kColumns * 16);
  });
  for (int32_t j = 0; j < depth; ++j) {
    F32x16 v[kColumns];
    ForEach<kColumns>(HOLDFAST_EACH { v[i] = LoadAs(b[i] + j * b_stride); });
    ForEach<kCount>([&](auto r) __attribute__((always_inline)) {
      const F32x16 x = Splat(a[r * a_stride + j]);
      ForEach<kColumns>(
          HOLDFAST_EACH { acc[r * kColumns + i] = Fma(x, v[i], acc[r * kColumns + i]); });
    });
  }
  ForEach<kCount * kColumns>(
      HOLDFAST_EACH { Store(c + i / kColumns * c_stride + i % kColumns * 16, acc[i]); });
}

// The same for `count` <= kCount rows: one tile of exactly that many, so that a group of three
// heads is one pass.
template <int kCount, int kColumns, bool kFromZero, typename B>
void MultiplyUpTo(int32_t count, const float* a, int64_t a_stride, const B* const (&b)[kColumns],
                  int64_t b_stride, int32_t depth, float* c, int64_t c_stride) {
  if (count >= kCount) {
    MultiplyTile<kCount, kColumns, kFromZero>(a, a_stride, b, b_stride, depth, c, c_stride);
  } else if constexpr (kCount > 1) {
    MultiplyUpTo<kCount - 1, kColumns, kFromZero>(count, a, a_stride, b, b_stride, depth, c,
                                                  c_stride);
  }
}

template <bool kFromZero, typename B>
void Multiply(int32_t count, const float* a, int64_t a_stride, const B* b, int64_t b_stride,
              int32_t depth, float* c, int64_t c_stride) {
  for (int32_t i = 0; i < count; i += kTileRows) {
    MultiplyUpTo<kTileRows, 1, kFromZero>(Least(count - i, int32_t{kTileRows}), a + i * a_stride,
                                          a_stride, {b}, b_stride, depth, c + i * c_stride,
                                          c_stride);
  }
}

class AttentionOfTile {
 public:
  // The tile's rows over those of their visible keys that lie in blocks [first_block, end_block);
  // the block table begins with first_block.
  AttentionOfTile(const AttentionTile& tile, int32_t first_block, int32_t end_block)
      : tile_(tile),
        first_block_(first_block),
        keys_{first_block * kPlaces, end_block * kPlaces},
        scratch_(Carve(tile)),
        padded_dim_(PaddedTo16(tile.head_dim)),
        direct_(tile.kv_element != KvElement::kF32 && tile.head_dim % 32 == 0 &&
                tile.num_rows == 1 && tile.num_heads <= kTileRows) {}

  void Run() {
    if (tile_.num_rows <= 0) return;
    ReadQueries();
    const int32_t first = Visible(0).begin / kSplitKeys;
    const int32_t last = (Visible(tile_.num_rows - 1).end - 1) / kSplitKeys;
    for (int32_t split = first; split <= last; ++split) AttendSplit(split);
    WriteOutputs();
  }

 private:
  // Keys that row r may see here, by absolute position; where it sees none, the end may lie before
  // the begin. Both ends ascend with r.
  Range Visible(int32_t r) const {
    const int32_t end = tile_.first_position + r + 1;
    return Intersect({tile_.window > 0 ? Most(0, end - tile_.window) : 0, end}, keys_);
  }

  // Rows that see at least one of `keys`: consecutive, as both ends of Visible ascend.
  Range RowsSeeing(Range keys) const {
    Range rows{0, tile_.num_rows};
    while (!rows.empty() && Visible(rows.begin).end <= keys.begin) ++rows.begin;
    while (!rows.empty() && Visible(rows.end - 1).begin >= keys.end) --rows.end;
    return rows;
  }

  // Rows among `rows` that see all of `keys`.
  Range RowsSeeingAll(Range rows, Range keys) const {
    while (!rows.empty() && Visible(rows.begin).end < keys.end) ++rows.begin;
    while (!rows.empty() && Visible(rows.end - 1).begin > keys.begin) --rows.end;
    return rows;
  }

  void ReadQueries() {
    const auto row_floats = static_cast<size_t>(tile_.num_heads) * tile_.head_dim;
    for (int32_t r = 0; r < tile_.num_rows; ++r) {
      __builtin_memcpy(scratch_.queries + r * row_floats, tile_.q + r * tile_.q_row_stride,
                       row_floats * sizeof(float));
    }
    const int64_t queries = int64_t{tile_.num_rows} * tile_.num_heads;
    for (int64_t query = 0; query < queries; ++query) scratch_.lse[query] = -kInfinity;
    for (int64_t i = 0; i < queries * padded_dim_; i += 16) Store(scratch_.out + i, Zero());
  }

  const std::byte* HeadOfBlock(int32_t block) const {
    return tile_.kv_base +
           static_cast<size_t>(tile_.block_table[block - first_block_]) * tile_.kv_block_stride;
  }

  // K of a block as f32 [head_dim][16]; of int8, the codes.
  const float* KeysOf(int32_t block) {
    const std::byte* keys = HeadOfBlock(block);
    if (tile_.kv_element == KvElement::kF32) return reinterpret_cast<const float*>(keys);
    const size_t row_bytes = kPlaces * Size(ElementBytes(tile_.kv_element));
    for (int32_t d = 0; d < tile_.head_dim; ++d) {
      Store(scratch_.block + 16 * d, LoadElements(tile_.kv_element, keys + row_bytes * Size(d)));
    }
    return scratch_.block;
  }

  // V of a block as f32 [16][padded_dim]; of int8, the codes. Only the first `places` places, so
  // that nothing is read that no row sees.
  const float* ValuesOf(int32_t block, int32_t places) {
    const size_t element = Size(ElementBytes(tile_.kv_element)), dim = Size(tile_.head_dim);
    const std::byte* values = HeadOfBlock(block) + element * kPlaces * dim;
    if (tile_.kv_element == KvElement::kF32 && tile_.head_dim % 16 == 0) {
      return reinterpret_cast<const float*>(values);
    }
    for (int32_t j = 0; j < places; ++j) {
      const std::byte* row = values + element * dim * Size(j);
      float* out = scratch_.block + int64_t{j} * padded_dim_;
      for (int32_t d = 0; d < padded_dim_; d += 16) {
        const int32_t lanes = Least(16, tile_.head_dim - d);
        const std::byte* at = row + element * Size(d);
        std::byte partial[64] = {};
        if (lanes < 16) {
          __builtin_memcpy(partial, at, element * Size(lanes));
          at = partial;
        }
        Store(out + d, LoadElements(tile_.kv_element, at));
      }
    }
    return scratch_.block;
  }

  void AttendSplit(int32_t split) {
    const Range keys = Intersect({split * kSplitKeys, (split + 1) * kSplitKeys}, keys_);
    const Range rows = RowsSeeing(keys);
    if (rows.empty()) return;
    const Range seen{Most(keys.begin, Visible(rows.begin).begin),
                     Least(keys.end, Visible(rows.end - 1).end)};
    const Range blocks{seen.begin / kPlaces, (seen.end + kPlaces - 1) / kPlaces};
    for (int32_t block = blocks.begin; block < blocks.end;) {
      if (direct_ && block + 1 < blocks.end) {
        if (tile_.kv_element == KvElement::kI8) {
          ScoreTwoBlocks<int8_t>(block);
        } else {
          ScoreTwoBlocks<uint16_t>(block);
        }
        block += 2;
      } else {
        ScoreBlock(block++);
      }
    }
    for (int32_t r = rows.begin; r < rows.end; ++r) {
      const Range visible = Intersect(Visible(r), keys);
      const Range row_blocks{visible.begin / kPlaces, (visible.end - 1) / kPlaces + 1};
      for (int32_t h = 0; h < tile_.num_heads; ++h) Softmax(Query(r) + h, row_blocks);
    }
    const int64_t first = Query(rows.begin), end = Query(rows.end);
    for (int64_t i = first * padded_dim_; i < end * padded_dim_; i += 16) {
      Store(scratch_.part + i, Zero());
    }
    for (int32_t block = blocks.begin; block < blocks.end; ++block) WeighBlock(block);
    for (int64_t query = first; query < end; ++query) Merge(query);
  }

  int64_t Query(int32_t row) const { return int64_t{row} * tile_.num_heads; }

  // The place of a block's scores in a query's line.
  static int32_t ScoreOffset(int32_t block) { return block % kSplitBlocks * kPlaces; }

  // Scores of a block for the rows that see any of it; minus infinity where they don't.
  void ScoreBlock(int32_t block) {
    const Range keys{block * kPlaces, (block + 1) * kPlaces};
    const Range rows = RowsSeeing(keys);
    if (rows.empty()) return;
    const int64_t first = Query(rows.begin);
    Multiply<true>(static_cast<int32_t>(Query(rows.end) - first),
                   scratch_.queries + first * tile_.head_dim, tile_.head_dim, KeysOf(block), 16,
                   tile_.head_dim, scratch_.scores + first * kSplitKeys + ScoreOffset(block),
                   kSplitKeys);
    ScaleAndMask(rows, keys, block);
  }

  // The one row's scores of two blocks of a split, straight from how they are stored.
  template <typename Stored>
  void ScoreTwoBlocks(int32_t block) {
    const auto* first = reinterpret_cast<const Stored*>(HeadOfBlock(block));
    const auto* second = reinterpret_cast<const Stored*>(HeadOfBlock(block + 1));
    MultiplyUpTo<kTileRows, 2, true>(tile_.num_heads, scratch_.queries, tile_.head_dim,
                                     {first, second}, 16, tile_.head_dim,
                                     scratch_.scores + ScoreOffset(block), kSplitKeys);
    for (int32_t b = block; b < block + 2; ++b) {
      ScaleAndMask({0, 1}, {b * kPlaces, (b + 1) * kPlaces}, b);
    }
  }

  void ScaleAndMask(Range rows, Range keys, int32_t block) {
    float* scores = scratch_.scores + Query(rows.begin) * kSplitKeys + ScoreOffset(block);
    const bool coded = tile_.kv_element == KvElement::kI8;
    const F32x16 scale = Splat(tile_.scale);
    const F32x16 key_scales = coded ? Load(KeyScales(HeadOfBlock(block), tile_.head_dim)) : Zero();
    for (int32_t r = rows.begin; r < rows.end; ++r) {
      const Range visible = Intersect(Visible(r), keys);
      const bool whole = visible.end - visible.begin == kPlaces;
      for (int32_t h = 0; h < tile_.num_heads; ++h, scores += kSplitKeys) {
        const F32x16 dots = coded ? Mul(Load(scores), key_scales) : Load(scores);
        const F32x16 scaled = Mul(dots, scale);
        Store(scores, whole ? scaled
                            : KeepLanes(scaled, visible.begin - keys.begin,
                                        visible.end - keys.begin, -kInfinity));
      }
    }
  }

  // Scores to what V is multiplied by; `blocks` are those of the split that the query sees.
  void Softmax(int64_t query, Range blocks) {
    float* scores = scratch_.scores + query * kSplitKeys;
    F32x16 most = Splat(-kInfinity), sum = Zero();
    for (int32_t b = blocks.begin; b < blocks.end; ++b) {
      most = Max(Load(scores + ScoreOffset(b)), most);
    }
    const float top = MaxLanes(most);
    const F32x16 shift = Splat(top);
    for (int32_t b = blocks.begin; b < blocks.end; ++b) {
      const F32x16 p = Exp(Sub(Load(scores + ScoreOffset(b)), shift));
      sum = Add(sum, p);
      // In places that the query does not see, a stale scale may give anything; it is not read.
      const F32x16 weight = tile_.kv_element == KvElement::kI8
                                ? Mul(p, Load(ValueScales(HeadOfBlock(b), tile_.head_dim)))
                                : p;
      Store(scores + ScoreOffset(b), weight);
    }
    scratch_.most[query] = top;
    scratch_.sum[query] = SumLanes(sum);
  }

  // The one row's, straight from how V is stored.
  template <typename Stored>
  void WeighDirect(int32_t block) {
    const Range keys{block * kPlaces, (block + 1) * kPlaces};
    const Range visible = Intersect(Visible(0), keys);
    const int32_t place = visible.begin - keys.begin;
    const auto* values = reinterpret_cast<const Stored*>(HeadOfBlock(block)) +
                         int64_t{kPlaces + place} * tile_.head_dim;
    for (int32_t d = 0; d < tile_.head_dim; d += 32) {
      MultiplyUpTo<kTileRows, 2, false>(
          tile_.num_heads, scratch_.scores + ScoreOffset(block) + place, kSplitKeys,
          {values + d, values + d + 16}, tile_.head_dim, visible.end - visible.begin,
          scratch_.part + d, padded_dim_);
    }
  }

  // Adds p V of one block: rows that see all of it together, the others one by one.
  void WeighBlock(int32_t block) {
    if (direct_) {
      return tile_.kv_element == KvElement::kI8 ? WeighDirect<int8_t>(block)
                                                : WeighDirect<uint16_t>(block);
    }
    const Range keys{block * kPlaces, (block + 1) * kPlaces};
    const Range rows = RowsSeeing(keys);
    if (rows.empty()) return;
    const Range all = RowsSeeingAll(rows, keys);
    const int32_t places = Least(Visible(rows.end - 1).end, keys.end) - keys.begin;
    const float* values = ValuesOf(block, places);
    if (!all.empty()) WeighRows(all, block, {0, kPlaces}, values);
    for (int32_t r = rows.begin; r < rows.end; ++r) {
      if (r >= all.begin && r < all.end) continue;
      const Range visible = Intersect(Visible(r), keys);
      WeighRows({r, r + 1}, block, {visible.begin - keys.begin, visible.end - keys.begin}, values);
    }
  }

  void WeighRows(Range rows, int32_t block, Range places, const float* values) {
    const int64_t first = Query(rows.begin);
    const auto count = static_cast<int32_t>(Query(rows.end) - first);
    const float* p = scratch_.scores + first * kSplitKeys + ScoreOffset(block) + places.begin;
    for (int32_t d = 0; d < padded_dim_; d += 16) {
      Multiply<false>(count, p, kSplitKeys, values + int64_t{places.begin} * padded_dim_ + d,
                      padded_dim_, places.end - places.begin,
                      scratch_.part + first * padded_dim_ + d, padded_dim_);
    }
  }

  // out, lse <- out, lse merged with this split's. The first split a query sees is taken as it is.
  void Merge(int64_t query) {
    const float part_lse = scratch_.most[query] + LogOne(scratch_.sum[query]);
    const float lse = scratch_.lse[query];
    const float* part = scratch_.part + query * padded_dim_;
    float* out = scratch_.out + query * padded_dim_;
    const F32x16 sum = Splat(scratch_.sum[query]);
    if (lse == -kInfinity) {
      for (int32_t d = 0; d < padded_dim_; d += 16) Store(out + d, Div(Load(part + d), sum));
      scratch_.lse[query] = part_lse;
      return;
    }
    const MergeShares shares = SharesOf(lse, part_lse);
    for (int32_t d = 0; d < padded_dim_; d += 16) {
      Store(out + d, Merged(shares, Load(out + d), Div(Load(part + d), sum)));
    }
    scratch_.lse[query] = shares.lse;
  }

  void WriteOutputs() {
    for (int32_t r = 0; r < tile_.num_rows; ++r) {
      for (int32_t h = 0; h < tile_.num_heads; ++h) {
        const int64_t query = Query(r) + h;
        __builtin_memcpy(tile_.out + r * tile_.out_row_stride + int64_t{h} * tile_.head_dim,
                         scratch_.out + query * padded_dim_,
                         static_cast<size_t>(tile_.head_dim) * sizeof(float));
        if (tile_.lse != nullptr) tile_.lse[query].value = scratch_.lse[query];
      }
    }
  }

  const AttentionTile& tile_;
  const int32_t first_block_;
  const Range keys_;
  const AttentionScratch scratch_;
  const int32_t padded_dim_;
  // Decode: so few queries that each number is converted on its way into the product, not before.
  const bool direct_;
};

void Attention(const AttentionTile& tile) {
  constexpr int32_t kAllBlocks = INT32_MAX / kPlaces;
  AttentionOfTile(tile, 0, kAllBlocks).Run();
}

void AttendPart(const AttentionPart& part) {
  AttentionOfTile(part.tile, part.first_block, part.first_block + part.num_blocks).Run();
}

void MergeAttention(const AttentionMerge& merge) {
  const int32_t dim = merge.head_dim, whole = dim / 16 * 16;
  for (int32_t r = 0; r < merge.num_rows; ++r) {
    for (int32_t h = 0; h < merge.num_heads; ++h) {
      const int64_t query = int64_t{r} * merge.num_heads + h;
      const float part_lse = merge.part_lse[query].value;
      if (part_lse == -kInfinity) continue;
      float* out = merge.out + r * merge.out_row_stride + int64_t{h} * dim;
      const float* part = merge.part_out + r * merge.part_row_stride + int64_t{h} * dim;
      float& lse = merge.lse[query].value;
      if (lse == -kInfinity) {
        __builtin_memcpy(out, part, Size(dim) * sizeof(float));
        lse = part_lse;
        continue;
      }
      const MergeShares shares = SharesOf(lse, part_lse);
      for (int32_t d = 0; d < whole; d += 16) {
        Store(out + d, Merged(shares, Load(out + d), Load(part + d)));
      }
      if (const int32_t rest = dim - whole; rest > 0) {
        StorePartial(
            out + whole, rest,
            Merged(shares, LoadPartial(out + whole, rest), LoadPartial(part + whole, rest)));
      }
      lse = shares.lse;
    }
  }
}

}  // namespace
}  // namespace holdfast
