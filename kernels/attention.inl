// Attention of one tile over a paged view, or over a part of it. Written once over the lanes of the
// including path.
//
// Keys are cut at absolute multiples of kSplitKeys. For one query and one split, over the keys that
// it may see, ascending:
//   s_j = (sum_d q_d K_jd) * scale        fma over d ascending, one lane a key
//   m = max s_j,  p_j = exp(s_j - m),  l = sum p_j       16 lanes across blocks, then the tree
//   o_d = (sum_j p_j V_jd) * (1 / l)      fma over j ascending
//   lse = m + log l
// and splits are merged in ascending order by (o, lse). Nothing of it depends on the other queries
// of the tile; what a query may not see is never multiplied, so that stale bytes (infinities, NaN)
// in places beyond a row's context cannot reach its result.
//
// With int8 KV the products are of codes, and a token's scales are applied where they cost one
// multiplication a key: s_j = (sum_d q_d code_jd) * k_scale_j * scale, and p_j v_scale_j, rounded,
// stands for p_j in the sum for o (not in l).
//
// The queries of a tile are its rows' heads, row-major: query = row * num_heads + head. Several
// rows share each block's conversion to f32; one row reads KV as it is stored.

namespace holdfast {
namespace {

inline constexpr int32_t kSplitKeys = 256;
inline constexpr int32_t kPlaces = 16;                    // token places of a block (kv_layout.h)
inline constexpr int32_t kScoreStride = kSplitKeys + 16;  // not a power of two: cache sets differ
// Blocks that are worked on at once. As f32, their K or V of a head of 64 are 16 KB: with the
// weights of 48 queries for them, what a first-level cache holds.
inline constexpr int32_t kChunkBlocks = 4;
inline constexpr int32_t kChunkKeys = kChunkBlocks * kPlaces;

struct Range {
  int32_t begin, end;
  bool empty() const { return begin >= end; }
};

inline size_t Size(int32_t count) { return static_cast<size_t>(count); }

inline Range Intersect(Range a, Range b) { return {Most(a.begin, b.begin), Least(a.end, b.end)}; }

// Carves up AttentionTile::workspace; every part a multiple of 16 floats.
struct AttentionScratch {
  float* queries;  // [query][head_dim]
  float* scores;   // [query][kScoreStride], then the p_j
  float* part;     // [query][padded_dim]: o of this split, before the division
  float* out;      // [query][padded_dim]: merged
  float* sum;      // [query]: l of this split
  float* most;     // [query]: m of this split
  float* lse;      // [query]: merged
  float* chunk;    // [kChunkKeys * padded_dim]: K or V of a chunk's blocks in f32
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
  scratch.scores = take(queries * kScoreStride);
  scratch.part = take(queries * padded_dim);
  scratch.out = take(queries * padded_dim);
  scratch.sum = take(queries);
  scratch.most = take(queries);
  scratch.lse = take(queries);
  scratch.chunk = take(kChunkKeys * padded_dim);
  return scratch;
}

// What merging two partial results multiplies each by, and the merged lse; a query in each lane.
struct MergeShares {
  F32x16 old, part, lse;
};
inline MergeShares SharesOf(F32x16 lse, F32x16 part_lse) {
  const F32x16 most = Max(lse, part_lse);
  const F32x16 old_weight = Exp(Sub(lse, most)), part_weight = Exp(Sub(part_lse, most));
  const F32x16 weights = Add(old_weight, part_weight);
  return {Div(old_weight, weights), Div(part_weight, weights), Add(most, Log(weights))};
}

// The same, kept for the queries one by one.
struct SharesOfQueries {
  float old[16], part[16], lse[16];
  SharesOfQueries(F32x16 lse_lanes, F32x16 part_lse) {
    const MergeShares shares = SharesOf(lse_lanes, part_lse);
    Store(old, shares.old);
    Store(part, shares.part);
    Store(lse, shares.lse);
  }
  F32x16 Merged(int32_t query, F32x16 old_out, F32x16 part_out) const {
    return Fma(part_out, Splat(part[query]), Mul(old_out, Splat(old[query])));
  }
};

// Into the second-level cache: a tile's own data leave the first no room for what comes so late.
[[gnu::always_inline]] inline void AskForLater(const void* p) {
  constexpr int kRead = 0, kSecondLevel = 2;
  __builtin_prefetch(p, kRead, kSecondLevel);
}

class AttentionOfTile {
 public:
  // The tile's rows over those of their visible keys that lie in blocks [first_block, end_block);
  // the block table begins with first_block, and names blocks up to table_end.
  AttentionOfTile(const AttentionTile& tile, int32_t first_block, int32_t end_block,
                  int32_t table_end, bool continues)
      : tile_(tile),
        continues_(continues),
        first_block_(first_block),
        table_end_(table_end),
        keys_{first_block * kPlaces, end_block * kPlaces},
        scratch_(Carve(tile)),
        padded_dim_(PaddedTo16(tile.head_dim)),
        direct_(tile.head_dim % 16 == 0 && tile.num_rows == 1 &&
                tile.num_heads <= 2 * kAttentionRows) {}

  void Run() {
    if (tile_.num_rows <= 0) return;
    ReadQueries();
    const int32_t first = Visible(0).begin / kSplitKeys;
    const int32_t last = (Visible(tile_.num_rows - 1).end - 1) / kSplitKeys;
    for (int32_t split = first; split <= last; ++split) AttendSplit(split);
    WriteOutputs();
  }

 private:
  enum class Half : uint8_t { kKeys, kValues };  // of a head's part of a block

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

  void ReadQueries() {
    const auto row_floats = static_cast<size_t>(tile_.num_heads) * tile_.head_dim;
    for (int32_t r = 0; r < tile_.num_rows; ++r) {
      __builtin_memcpy(scratch_.queries + r * row_floats, tile_.q + r * tile_.q_row_stride,
                       row_floats * sizeof(float));
    }
    const int64_t queries = int64_t{tile_.num_rows} * tile_.num_heads;
    for (int64_t i = 0; i < queries; i += 16) Store(scratch_.lse + i, Splat(-kInfinity));
    for (int64_t i = 0; i < queries * padded_dim_; i += 16) Store(scratch_.out + i, Zero());
    if (!continues_) return;
    ForOutputs([this](int64_t query, float* out) {
      __builtin_memcpy(scratch_.out + query * padded_dim_, out,
                       Size(tile_.head_dim) * sizeof(float));
      scratch_.lse[query] = tile_.lse[query].value;
    });
  }

  const std::byte* HeadOfBlock(int32_t block) const {
    return tile_.kv_base +
           static_cast<size_t>(tile_.block_table[block - first_block_]) * tile_.kv_block_stride;
  }

  // The scales of an int8 block's head, behind its codes: 16 for K, then 16 for V.
  const float* KeyScales(const std::byte* head) const {
    return reinterpret_cast<const float*>(head + size_t{2} * kPlaces * Size(tile_.head_dim));
  }
  const float* ValueScales(const std::byte* head) const { return KeyScales(head) + kPlaces; }

  template <typename Stored>
  const Stored* HalfOf(int32_t block, Half half) const {
    const auto* keys = reinterpret_cast<const Stored*>(HeadOfBlock(block));
    return half == Half::kKeys ? keys : keys + int64_t{kPlaces} * tile_.head_dim;
  }

  // What is read a chunk's length after this half: of each split, with its `blocks`, first all K,
  // then all V, then K of the next split.
  template <typename Stored>
  const Stored* HalfAheadOf(int32_t block, Half half, Range blocks) const {
    const int32_t ahead = block + kChunkBlocks;
    if (ahead < blocks.end) return HalfOf<Stored>(ahead, half);
    if (half == Half::kValues) return HalfOf<Stored>(Least(ahead, table_end_ - 1), Half::kKeys);
    return HalfOf<Stored>(Least(ahead - blocks.end + blocks.begin, blocks.end - 1), Half::kValues);
  }

  // f(a pointer of the type that K and V are stored as).
  template <typename F>
  void AsStored(const F& f) const {
    switch (tile_.kv_element) {
      case KvElement::kF32:
        return f(static_cast<const float*>(nullptr));
      case KvElement::kF16:
        return f(static_cast<const uint16_t*>(nullptr));
      case KvElement::kI8:
        return f(static_cast<const int8_t*>(nullptr));
    }
  }

  void AttendSplit(int32_t split) {
    const Range keys = Intersect({split * kSplitKeys, (split + 1) * kSplitKeys}, keys_);
    const Range rows = RowsSeeing(keys);
    if (rows.empty()) return;
    const Range seen{Most(keys.begin, Visible(rows.begin).begin),
                     Least(keys.end, Visible(rows.end - 1).end)};
    const Range blocks{seen.begin / kPlaces, (seen.end + kPlaces - 1) / kPlaces};
    const auto each_chunk = [&](const auto& f) {
      for (int32_t b = blocks.begin; b < blocks.end; b += kChunkBlocks) {
        f(Range{b, Least(b + kChunkBlocks, blocks.end)});
      }
    };
    each_chunk([&](Range chunk) { ScoreChunk(chunk, blocks); });
    for (int32_t r = rows.begin; r < rows.end; ++r) {
      const Range visible = Intersect(Visible(r), keys);
      for (int32_t h = 0; h < tile_.num_heads; ++h) Softmax(Query(r) + h, visible);
    }
    const int64_t first = Query(rows.begin), end = Query(rows.end);
    for (int64_t i = first * padded_dim_; i < end * padded_dim_; i += 16) {
      Store(scratch_.part + i, Zero());
    }
    each_chunk([&](Range chunk) { WeighChunk(chunk, blocks); });
    Merge(first, end);
  }

  int64_t Query(int32_t row) const { return int64_t{row} * tile_.num_heads; }
  int32_t NumQueries(Range rows) const { return (rows.end - rows.begin) * tile_.num_heads; }

  // The place of a key's score in a query's line.
  static int32_t ScoreOffset(int32_t key) { return key % kSplitKeys; }

  // ---- Scores -----------------------------------------------------------------------------------

  // q K of a chunk's blocks for the rows that see any of it.
  void ScoreChunk(Range chunk, Range blocks) {
    const Range keys{chunk.begin * kPlaces, chunk.end * kPlaces};
    const Range rows = RowsSeeing(keys);
    if (rows.empty()) return;
    const int64_t first = Query(rows.begin);
    const ProductRows products{
        NumQueries(rows), scratch_.queries + first * tile_.head_dim, tile_.head_dim,
        scratch_.scores + first * kScoreStride + ScoreOffset(keys.begin), kScoreStride};
    AsStored([&]<typename Stored>(const Stored*) {
      if (direct_) return ScoreDirect<Stored>(products, chunk, blocks);
      const float* const keys_of_chunk = ReadKeys<Stored>(chunk, blocks);
      const auto column = [&](int32_t m) {
        return keys_of_chunk + int64_t{kPlaces} * m * tile_.head_dim;
      };
      Multiply<true>(
          products,
          Columns<float, false, decltype(column), int>{chunk.end - chunk.begin, kPlaces, column, 0},
          tile_.head_dim);
    });
  }

  // The one row's, straight from how K is stored.
  template <typename Stored>
  void ScoreDirect(const ProductRows& products, Range chunk, Range blocks) const {
    const auto column = [&](int32_t m) { return HalfOf<Stored>(chunk.begin + m, Half::kKeys); };
    const auto ahead = [&](int32_t m) {
      return HalfAheadOf<Stored>(chunk.begin + m, Half::kKeys, blocks);
    };
    Multiply<true>(products,
                   Columns<Stored, true, decltype(column), decltype(ahead)>{chunk.end - chunk.begin,
                                                                            kPlaces, column, ahead},
                   tile_.head_dim);
  }

  // K of the chunk's blocks as f32 [block][head_dim][16]; of int8, the codes.
  template <typename Stored>
  const float* ReadKeys(Range chunk, Range blocks) {
    float* out = scratch_.chunk;
    for (int32_t block = chunk.begin; block < chunk.end; ++block) {
      const Stored* keys = HalfOf<Stored>(block, Half::kKeys);
      const Stored* ahead = HalfAheadOf<Stored>(block, Half::kKeys, blocks);
      for (int32_t i = 0; i < kPlaces * tile_.head_dim; i += kPlaces, out += kPlaces) {
        AskForLater(ahead + i);
        Store(out, LoadAs(keys + i));
      }
    }
    return scratch_.chunk;
  }

  // Scores to what V is multiplied by; `visible` are the keys of the split that the query sees.
  void Softmax(int64_t query, Range visible) {
    const Range blocks{visible.begin / kPlaces, (visible.end - 1) / kPlaces + 1};
    float* const scores =
        scratch_.scores + query * kScoreStride + ScoreOffset(blocks.begin * kPlaces);
    const int32_t begin = visible.begin - blocks.begin * kPlaces;
    const int32_t end = visible.end - blocks.begin * kPlaces;
    const int32_t padded_end = (blocks.end - blocks.begin) * kPlaces;
    const bool coded = tile_.kv_element == KvElement::kI8;
    const F32x16 scale = Splat(tile_.scale);
    F32x16 most = Splat(-kInfinity), sum = Zero();
    for (int32_t i = 0; i < padded_end; i += kPlaces) {
      F32x16 score = Load(scores + i);
      if (coded) score = Mul(score, Load(KeyScales(HeadOfBlock(blocks.begin + i / kPlaces))));
      score = Mul(score, scale);
      if (i < begin || i + kPlaces > end) {
        score = KeepLanes(score, LanesOf(Most(begin - i, 0), Least(end - i, kPlaces)), -kInfinity);
      }
      Store(scores + i, score);
      most = Max(score, most);
    }
    const float top = MaxLanes(most);
    const F32x16 shift = Splat(top);
    for (int32_t i = 0; i < padded_end; i += kPlaces) {
      const F32x16 p = ExpOfMinus(Sub(Load(scores + i), shift));
      sum = Add(sum, p);
      Store(scores + i, p);
    }
    scratch_.most[query] = top;
    scratch_.sum[query] = SumLanes(sum);
    if (!coded) return;
    for (int32_t i = 0; i < padded_end; i += kPlaces) {
      // In places that the query does not see, a stale scale may give anything; it is not read.
      const F32x16 scales = Load(ValueScales(HeadOfBlock(blocks.begin + i / kPlaces)));
      Store(scores + i, Mul(Load(scores + i), scales));
    }
  }

  // ---- Values -----------------------------------------------------------------------------------

  // Adds p V of a chunk's blocks: keys that all its rows see together, the others row by row.
  void WeighChunk(Range chunk, Range blocks) {
    const Range keys{chunk.begin * kPlaces, chunk.end * kPlaces};
    const Range rows = RowsSeeing(keys);
    if (rows.empty()) return;
    AsStored([&]<typename Stored>(const Stored*) {
      if (direct_) {
        for (int32_t block = chunk.begin; block < chunk.end; ++block) {
          WeighDirect<Stored>(block, blocks);
        }
      } else {
        ReadValues<Stored>(chunk, Least(keys.end, Visible(rows.end - 1).end), blocks);
      }
    });
    if (direct_) return;
    const Range all = Intersect(keys, {Visible(rows.end - 1).begin, Visible(rows.begin).end});
    for (int32_t r = rows.begin; r < rows.end; ++r) {
      const Range visible = Intersect(Visible(r), keys);
      WeighKeys({r, r + 1}, all.empty() ? visible : Range{visible.begin, all.begin}, keys.begin);
    }
    if (all.empty()) return;
    WeighKeys(rows, all, keys.begin);
    for (int32_t r = rows.begin; r < rows.end; ++r) {
      WeighKeys({r, r + 1}, {all.end, Intersect(Visible(r), keys).end}, keys.begin);
    }
  }

  // V of `keys` for rows that see all of them; scratch begins with key chunk_begin.
  void WeighKeys(Range rows, Range keys, int32_t chunk_begin) const {
    if (keys.empty()) return;
    const int64_t first = Query(rows.begin);
    const float* const values = scratch_.chunk + int64_t{keys.begin - chunk_begin} * padded_dim_;
    const auto column = [&](int32_t m) { return values + int64_t{16} * m; };
    Multiply<false>(
        ProductRows{NumQueries(rows),
                    scratch_.scores + first * kScoreStride + ScoreOffset(keys.begin), kScoreStride,
                    scratch_.part + first * padded_dim_, padded_dim_},
        Columns<float, false, decltype(column), int>{padded_dim_ / 16, padded_dim_, column, 0},
        keys.end - keys.begin);
  }

  // The one row's, straight from how V is stored.
  template <typename Stored>
  void WeighDirect(int32_t block, Range blocks) const {
    const Range keys{block * kPlaces, (block + 1) * kPlaces};
    const Range visible = Intersect(Visible(0), keys);
    const int64_t begin = int64_t{visible.begin - keys.begin} * tile_.head_dim;
    const Stored* const values = HalfOf<Stored>(block, Half::kValues) + begin;
    const Stored* const values_ahead = HalfAheadOf<Stored>(block, Half::kValues, blocks) + begin;
    const auto column = [&](int32_t m) { return values + int64_t{16} * m; };
    const auto ahead = [&](int32_t m) { return values_ahead + int64_t{16} * m; };
    Multiply<false>(ProductRows{tile_.num_heads, scratch_.scores + ScoreOffset(visible.begin),
                                kScoreStride, scratch_.part, padded_dim_},
                    Columns<Stored, true, decltype(column), decltype(ahead)>{
                        tile_.head_dim / 16, tile_.head_dim, column, ahead},
                    visible.end - visible.begin);
  }

  // V of the chunk's places before key `end` as f32 [place][padded_dim], so that nothing is read
  // that no row sees; of int8, the codes.
  template <typename Stored>
  void ReadValues(Range chunk, int32_t end, Range blocks) {
    const int32_t dim = tile_.head_dim;
    float* out = scratch_.chunk;
    for (int32_t block = chunk.begin; block < chunk.end; ++block) {
      const Stored* row = HalfOf<Stored>(block, Half::kValues);
      const Stored* ahead = HalfAheadOf<Stored>(block, Half::kValues, blocks);
      const int32_t places = Least(kPlaces, end - block * kPlaces);
      for (int32_t j = 0; j < places; ++j, row += dim, ahead += dim, out += padded_dim_) {
        for (int32_t d = 0; d < padded_dim_; d += 16) {
          const int32_t lanes = Least(16, dim - d);
          const Stored* at = row + d;
          Stored partial[16] = {};
          if (lanes < 16) {
            __builtin_memcpy(partial, at, sizeof(Stored) * Size(lanes));
            at = partial;
          }
          AskForLater(ahead + d);
          Store(out + d, LoadAs(at));
        }
      }
    }
  }

  // ---- Merge ------------------------------------------------------------------------------------

  // out, lse <- out, lse merged with this split's, for queries [first, end).
  void Merge(int64_t first, int64_t end) {
    for (int64_t query = first; query < end; query += 16) {
      const F32x16 sum = Load(scratch_.sum + query), lse = Load(scratch_.lse + query);
      const F32x16 part_lse = Add(Load(scratch_.most + query), Log(sum));
      const SharesOfQueries shares(lse, part_lse);
      float inverse[16], first_lse[16];
      Store(inverse, Div(Splat(1.0f), sum));
      Store(first_lse, part_lse);
      const auto count = static_cast<int32_t>(Least(int64_t{16}, end - query));
      for (int32_t i = 0; i < count; ++i) {
        const float* part = scratch_.part + (query + i) * padded_dim_;
        float* out = scratch_.out + (query + i) * padded_dim_;
        float& merged_lse = scratch_.lse[query + i];
        // The first split that a query sees is taken as it is.
        const bool seen_before = merged_lse != -kInfinity;
        for (int32_t d = 0; d < padded_dim_; d += 16) {
          const F32x16 part_out = Mul(Load(part + d), Splat(inverse[i]));
          Store(out + d, seen_before ? shares.Merged(i, Load(out + d), part_out) : part_out);
        }
        merged_lse = seen_before ? shares.lse[i] : first_lse[i];
      }
    }
  }

  void WriteOutputs() {
    ForOutputs([this](int64_t query, float* out) {
      __builtin_memcpy(out, scratch_.out + query * padded_dim_,
                       Size(tile_.head_dim) * sizeof(float));
      if (tile_.lse != nullptr) tile_.lse[query].value = scratch_.lse[query];
    });
  }

  // f(query, its output) of each row and head.
  template <typename F>
  void ForOutputs(const F& f) const {
    for (int32_t r = 0; r < tile_.num_rows; ++r) {
      for (int32_t h = 0; h < tile_.num_heads; ++h) {
        f(Query(r) + h, tile_.out + r * tile_.out_row_stride + int64_t{h} * tile_.head_dim);
      }
    }
  }

  const AttentionTile& tile_;
  const bool continues_;
  const int32_t first_block_;
  const int32_t table_end_;
  const Range keys_;
  const AttentionScratch scratch_;
  const int32_t padded_dim_;
  // Decode: so few queries that each number is converted on its way into the product, not before.
  const bool direct_;
};

void Attention(const AttentionTile& tile) {
  constexpr int32_t kAllBlocks = INT32_MAX / kPlaces;
  const int32_t table_end = (tile.first_position + tile.num_rows - 1) / kPlaces + 1;
  AttentionOfTile(tile, 0, kAllBlocks, table_end, /*continues=*/false).Run();
}

void AttendPart(const AttentionPart& part) {
  const int32_t end = part.first_block + part.num_blocks;
  AttentionOfTile(part.tile, part.first_block, end, end + part.num_blocks_next, part.continues)
      .Run();
}

void MergeAttention(const AttentionMerge& merge) {
  const int32_t dim = merge.head_dim;
  const int64_t queries = int64_t{merge.num_rows} * merge.num_heads;
  const auto lanes_of = [](const NaturalLse* lse, int32_t count) {
    return LoadPartial(&lse->value, count);
  };
  for (int64_t query = 0; query < queries; query += 16) {
    const auto count = static_cast<int32_t>(Least(int64_t{16}, queries - query));
    const SharesOfQueries shares(lanes_of(merge.lse + query, count),
                                 lanes_of(merge.part_lse + query, count));
    for (int32_t i = 0; i < count; ++i) {
      const float part_lse = merge.part_lse[query + i].value;
      if (part_lse == -kInfinity) continue;
      const int64_t r = (query + i) / merge.num_heads, h = (query + i) % merge.num_heads;
      float* out = merge.out + r * merge.out_row_stride + h * dim;
      const float* part = merge.part_out + r * merge.part_row_stride + h * dim;
      float& lse = merge.lse[query + i].value;
      if (lse == -kInfinity) {
        __builtin_memcpy(out, part, Size(dim) * sizeof(float));
        lse = part_lse;
        continue;
      }
      for (int32_t d = 0; d < dim; d += 16) {
        const int32_t lanes = Least(16, dim - d);
        if (lanes == 16) {
          Store(out + d, shares.Merged(i, Load(out + d), Load(part + d)));
        } else {
          const F32x16 rest = LoadPartial(part + d, lanes);
          StorePartial(out + d, lanes, shares.Merged(i, LoadPartial(out + d, lanes), rest));
        }
      }
      lse = shares.lse[i];
    }
  }
}

}  // namespace
}  // namespace holdfast
