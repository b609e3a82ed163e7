// Attention of one tile over a paged view. Written once over the lanes of the including path.
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
// The queries of a tile are its rows' heads, row-major: query = row * num_heads + head. They share
// each block's conversion from f16.

namespace holdfast {
namespace {

inline constexpr int32_t kSplitKeys = 256;
inline constexpr int32_t kPlaces = 16;  // token places of a block (kv_layout.h)
inline constexpr int32_t kSplitBlocks = kSplitKeys / kPlaces;

struct Range {
  int32_t begin, end;
  bool empty() const { return begin >= end; }
};

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

// c[i][16 * m ..] (+)= sum over j of a[i][j] * b[m][j][0..16), j ascending, for kCount rows of a
// and c and kColumns vectors of 16. b is f32, or f16 converted on the way.
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
  explicit AttentionOfTile(const AttentionTile& tile)
      : tile_(tile),
        scratch_(Carve(tile)),
        padded_dim_(PaddedTo16(tile.head_dim)),
        direct_(!tile.kv_f32 && tile.head_dim % 32 == 0 && tile.num_rows == 1 &&
                tile.num_heads <= kTileRows) {}

  void Run() {
    if (tile_.num_rows <= 0) return;
    ReadQueries();
    const int32_t first = Visible(0).begin / kSplitKeys;
    const int32_t last = (Visible(tile_.num_rows - 1).end - 1) / kSplitKeys;
    for (int32_t split = first; split <= last; ++split) AttendSplit(split);
    WriteOutputs();
  }

 private:
  // Keys that row r may see, by absolute position. Both ends ascend with r.
  Range Visible(int32_t r) const {
    const int32_t end = tile_.first_position + r + 1;
    return {tile_.window > 0 ? Most(0, end - tile_.window) : 0, end};
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
    return tile_.kv_base + static_cast<size_t>(tile_.block_table[block]) * tile_.kv_block_stride;
  }

  // K of a block as f32 [head_dim][16].
  const float* KeysOf(int32_t block) {
    const std::byte* keys = HeadOfBlock(block);
    if (tile_.kv_f32) return reinterpret_cast<const float*>(keys);
    for (int32_t d = 0; d < tile_.head_dim; ++d) {
      Store(scratch_.block + 16 * d, LoadHalf(keys + size_t{32} * static_cast<size_t>(d)));
    }
    return scratch_.block;
  }

  // V of a block as f32 [16][padded_dim]. Only the first `places` places, so that nothing is read
  // that no row sees.
  const float* ValuesOf(int32_t block, int32_t places) {
    const auto dim = static_cast<size_t>(tile_.head_dim);
    const size_t element = tile_.kv_f32 ? 4 : 2;
    const std::byte* values = HeadOfBlock(block) + element * kPlaces * dim;
    if (tile_.kv_f32 && tile_.head_dim % 16 == 0) return reinterpret_cast<const float*>(values);
    for (int32_t j = 0; j < places; ++j) {
      const std::byte* row = values + element * dim * static_cast<size_t>(j);
      float* out = scratch_.block + int64_t{j} * padded_dim_;
      for (int32_t d = 0; d < padded_dim_; d += 16) {
        const int32_t lanes = Least(16, tile_.head_dim - d);
        const std::byte* at = row + element * static_cast<size_t>(d);
        std::byte partial[64] = {};
        if (lanes < 16) {
          __builtin_memcpy(partial, at, element * static_cast<size_t>(lanes));
          at = partial;
        }
        Store(out + d, tile_.kv_f32 ? Load(reinterpret_cast<const float*>(at)) : LoadHalf(at));
      }
    }
    return scratch_.block;
  }

  void AttendSplit(int32_t split) {
    const Range keys{split * kSplitKeys, (split + 1) * kSplitKeys};
    const Range rows = RowsSeeing(keys);
    if (rows.empty()) return;
    const Range seen{Most(keys.begin, Visible(rows.begin).begin),
                     Least(keys.end, Visible(rows.end - 1).end)};
    const Range blocks{seen.begin / kPlaces, (seen.end + kPlaces - 1) / kPlaces};
    for (int32_t block = blocks.begin; block < blocks.end;) {
      if (direct_ && block + 1 < blocks.end) {
        ScoreTwoBlocks(block);
        block += 2;
      } else {
        ScoreBlock(block++);
      }
    }
    for (int32_t r = rows.begin; r < rows.end; ++r) {
      const Range visible = Intersect(Visible(r), keys);
      const Range row_blocks{visible.begin / kPlaces % kSplitBlocks,
                             (visible.end - 1) / kPlaces % kSplitBlocks + 1};
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

  // The one row's scores of two blocks of a split, straight from f16.
  void ScoreTwoBlocks(int32_t block) {
    const auto* first = reinterpret_cast<const uint16_t*>(HeadOfBlock(block));
    const auto* second = reinterpret_cast<const uint16_t*>(HeadOfBlock(block + 1));
    MultiplyUpTo<kTileRows, 2, true>(tile_.num_heads, scratch_.queries, tile_.head_dim,
                                     {first, second}, 16, tile_.head_dim,
                                     scratch_.scores + ScoreOffset(block), kSplitKeys);
    for (int32_t b = block; b < block + 2; ++b) {
      ScaleAndMask({0, 1}, {b * kPlaces, (b + 1) * kPlaces}, b);
    }
  }

  void ScaleAndMask(Range rows, Range keys, int32_t block) {
    float* scores = scratch_.scores + Query(rows.begin) * kSplitKeys + ScoreOffset(block);
    const F32x16 scale = Splat(tile_.scale);
    for (int32_t r = rows.begin; r < rows.end; ++r) {
      const Range visible = Intersect(Visible(r), keys);
      const bool whole = visible.end - visible.begin == kPlaces;
      for (int32_t h = 0; h < tile_.num_heads; ++h, scores += kSplitKeys) {
        const F32x16 scaled = Mul(Load(scores), scale);
        Store(scores, whole ? scaled
                            : KeepLanes(scaled, visible.begin - keys.begin,
                                        visible.end - keys.begin, -kInfinity));
      }
    }
  }

  // Scores to p; `blocks` are those of the split that the query sees.
  void Softmax(int64_t query, Range blocks) {
    float* scores = scratch_.scores + query * kSplitKeys;
    F32x16 most = Splat(-kInfinity), sum = Zero();
    for (int32_t b = blocks.begin; b < blocks.end; ++b) {
      most = Max(Load(scores + kPlaces * b), most);
    }
    const float top = MaxLanes(most);
    const F32x16 shift = Splat(top);
    for (int32_t b = blocks.begin; b < blocks.end; ++b) {
      const F32x16 p = Exp(Sub(Load(scores + kPlaces * b), shift));
      Store(scores + kPlaces * b, p);
      sum = Add(sum, p);
    }
    scratch_.most[query] = top;
    scratch_.sum[query] = SumLanes(sum);
  }

  // The one row's, straight from f16.
  void WeighDirect(int32_t block) {
    const Range keys{block * kPlaces, (block + 1) * kPlaces};
    const Range visible = Intersect(Visible(0), keys);
    const int32_t place = visible.begin - keys.begin;
    const auto* values = reinterpret_cast<const uint16_t*>(HeadOfBlock(block)) +
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
    if (direct_) return WeighDirect(block);
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
    const float most = Most(lse, part_lse);
    const float old_weight = ExpOne(lse - most), part_weight = ExpOne(part_lse - most);
    const float weights = old_weight + part_weight;
    const F32x16 old_share = Splat(old_weight / weights), share = Splat(part_weight / weights);
    for (int32_t d = 0; d < padded_dim_; d += 16) {
      const F32x16 o = Div(Load(part + d), sum);
      Store(out + d, Fma(o, share, Mul(Load(out + d), old_share)));
    }
    scratch_.lse[query] = most + LogOne(weights);
  }

  void WriteOutputs() {
    for (int32_t r = 0; r < tile_.num_rows; ++r) {
      for (int32_t h = 0; h < tile_.num_heads; ++h) {
        const int64_t query = Query(r) + h;
        __builtin_memcpy(tile_.out + r * tile_.out_row_stride + int64_t{h} * tile_.head_dim,
                         scratch_.out + query * padded_dim_,
                         static_cast<size_t>(tile_.head_dim) * sizeof(float));
        if (tile_.lse != nullptr) tile_.lse[query] = scratch_.lse[query];
      }
    }
  }

  const AttentionTile& tile_;
  const AttentionScratch scratch_;
  const int32_t padded_dim_;
  // Decode: so few queries that each f16 is converted on its way into the product, not beforehand.
  const bool direct_;
};

void Attention(const AttentionTile& tile) { AttentionOfTile(tile).Run(); }

void WriteKv(const float* key, const float* value, int32_t head_dim, bool kv_f32, int32_t slot,
             std::byte* head_block) {
  const auto dim = static_cast<size_t>(head_dim);
  const size_t element = kv_f32 ? 4 : 2;
  std::byte* key_at = head_block + element * static_cast<size_t>(slot);
  std::byte* value_at = head_block + element * dim * (kPlaces + static_cast<size_t>(slot));
  for (int32_t d = 0; d < head_dim; d += 16) {
    const int32_t lanes = Least(16, head_dim - d);
    std::byte keys[64], values[64];
    if (kv_f32) {
      Store(reinterpret_cast<float*>(keys), LoadPartial(key + d, lanes));
      Store(reinterpret_cast<float*>(values), LoadPartial(value + d, lanes));
    } else {
      StoreHalf(keys, LoadPartial(key + d, lanes));
      StoreHalf(values, LoadPartial(value + d, lanes));
    }
    for (int32_t i = 0; i < lanes; ++i) {
      __builtin_memcpy(key_at, keys + element * static_cast<size_t>(i), element);
      key_at += element * kPlaces;
    }
    __builtin_memcpy(value_at + element * static_cast<size_t>(d), values,
                     element * static_cast<size_t>(lanes));
  }
}

}  // namespace
}  // namespace holdfast
