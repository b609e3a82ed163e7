// The two products of attention, queries by keys and weights by values, in tiles that stay in
// registers. Written once over the lanes of the including path.

namespace holdfast {
namespace {

[[gnu::always_inline]] inline F32x16 LoadAs(const float* p) { return Load(p); }
[[gnu::always_inline]] inline F32x16 LoadAs(const uint16_t* p) { return LoadHalf(p); }
[[gnu::always_inline]] inline F32x16 LoadAs(const int8_t* p) { return LoadI8(p); }

// Vectors of 16 that a product's rows are multiplied by: number j of column m is at
// column(m) + j * stride, as it is stored, and converted on the way.
//
// Blocks lie far apart, and a processor's own prefetching ends at a page's. So the product asks for
// what is read next while it works: at ahead(m) + j * stride. kAhead false: nothing is asked for.
template <typename B, bool kAhead, typename Column, typename Ahead>
struct Columns {
  using Stored = B;
  static constexpr bool kAsksAhead = kAhead;
  int32_t count;
  int64_t stride;
  Column column;
  Ahead ahead;
};

// Rows of the left side and of the result: a[i][j] at a + i * a_stride + j, column m of c[i] at
// c + i * c_stride + 16 * m.
struct ProductRows {
  int32_t count;
  const float* a;
  int64_t a_stride;
  float* c;
  int64_t c_stride;

  ProductRows From(int32_t first, int32_t num) const {
    return {num, a + first * a_stride, a_stride, c + first * c_stride, c_stride};
  }
};

// c[i][m] (+)= sum over j of a[i][j] * b[m][j], j ascending, for kRows rows and kColumns columns.
template <bool kFromZero, int kRows, int kColumns, typename B>
void MultiplyTile(const ProductRows& rows, const B& b, int32_t first_column, int32_t depth) {
  using Stored = typename B::Stored;
  const float* const a = rows.a;
  const int64_t a_stride = rows.a_stride;
  float* const c = rows.c + int64_t{16} * first_column;
  const Stored *column[kColumns], *ahead[kColumns];
  ForEach<kColumns>(HOLDFAST_EACH {
    column[i] = b.column(first_column + i);
    if constexpr (B::kAsksAhead) ahead[i] = b.ahead(first_column + i);
  });
  F32x16 acc[kRows * kColumns];
  ForEach<kRows * kColumns>(HOLDFAST_EACH {
    acc[i] = kFromZero ? Zero() : Load(c + i / kColumns * rows.c_stride + i % kColumns * 16);
  });
  for (int32_t j = 0; j < depth; ++j) {
    const int64_t at = j * b.stride;
    F32x16 v[kColumns];
    ForEach<kColumns>(HOLDFAST_EACH {
      if constexpr (B::kAsksAhead) __builtin_prefetch(ahead[i] + at);
      v[i] = LoadAs(column[i] + at);
    });
    ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
      const F32x16 x = Splat(a[r * a_stride + j]);
      ForEach<kColumns>(
          HOLDFAST_EACH { acc[r * kColumns + i] = Fma(x, v[i], acc[r * kColumns + i]); });
    });
  }
  ForEach<kRows * kColumns>(
      HOLDFAST_EACH { Store(c + i / kColumns * rows.c_stride + i % kColumns * 16, acc[i]); });
}

// All columns for rows.count <= kRows rows, which are one tile high.
template <bool kFromZero, int kRows, typename B>
void MultiplyUpTo(const ProductRows& rows, const B& b, int32_t depth) {
  if (rows.count >= kRows) {
    constexpr int kColumns = AttentionColumns(kRows);
    int32_t m = 0;
    for (; m + kColumns <= b.count; m += kColumns) {
      MultiplyTile<kFromZero, kRows, kColumns>(rows, b, m, depth);
    }
    for (; m < b.count; ++m) MultiplyTile<kFromZero, kRows, 1>(rows, b, m, depth);
  } else if constexpr (kRows > 1) {
    MultiplyUpTo<kFromZero, kRows - 1>(rows, b, depth);
  }
}

// In tiles of nearly equal height: 7 rows are 4 and 3, not 6 and 1.
template <bool kFromZero, typename B>
void Multiply(const ProductRows& rows, const B& b, int32_t depth) {
  const int32_t tiles = (rows.count + kAttentionRows - 1) / kAttentionRows;
  int32_t begin = 0;
  for (int32_t tile = 0; tile < tiles; ++tile) {
    const int32_t end = rows.count * (tile + 1) / tiles;
    MultiplyUpTo<kFromZero, kAttentionRows>(rows.From(begin, end - begin), b, depth);
    begin = end;
  }
}

}  // namespace
}  // namespace holdfast
