// Quantised product, written once; DotCodes and the lanes come from the path's own file.
//
// For each output and block of 32 (or 16, Q6_K) along k, ascending:
//   y = fma(offset, x_scale * sum_x, y)                        if the type has offsets
//   y = fma(scale * x_scale, sum (code - zero_point) * x, y)
// An activation is 256 * high + low, two signed bytes, so that the same dot product of bytes serves
// both: dot = 256 * dot(high) + dot(low). Where low is zero in all rows at hand that dot is left
// out, and the 256 goes to the scale instead: a power of two, so no bit is changed by it (scales
// are never so small that this would lose bits, see kLeastMagnitudeBits). The sums are exact in
// int32 (32 * 255 * 32639), each other operation rounds once; so neither the path nor the number
// of rows at once can change a bit.
//
// That sequence stands in MultiplyBlocks alone. It is given the weights as they are packed, for a
// few rows, or unpacked to bytes: once for all rows of a pass, into a stack buffer that the first-
// level cache holds. Or to words, with a path that multiplies words (DotsOfWords, 8-bit codes on
// AVX2): then activations are words too, and wide blocks cost no more than others.

namespace holdfast {
namespace {

template <int kRows>
inline bool AnyOf(const uint8_t* flags) {
  static_assert(kRows <= 8);
  uint64_t all = 0;
  __builtin_memcpy(&all, flags, kRows);
  return all != 0;
}

constexpr int Log2(int power_of_two) { return power_of_two <= 1 ? 0 : 1 + Log2(power_of_two / 2); }

// Where the rows' next block lies.
struct RowsCursor {
  const int8_t *high, *low;
  const float *scale, *scaled_sum;
  const int32_t* negative_sum;
  const uint8_t* wide;

  RowsCursor(const QuantizedRows& x, int32_t k, int32_t row, int32_t block) {
    const int64_t at = RowBlocks::At(row, block, k);
    high = x.high + 32 * at;
    low = x.low + 32 * at;
    scale = x.scale + at;
    scaled_sum = x.scaled_sum + at;
    negative_sum = x.negative_sum + 2 * at;
    wide = x.wide + at;
  }
  void Advance() {
    constexpr int64_t kStride = RowBlocks::kGroup;
    high += 32 * kStride;
    low += 32 * kStride;
    scale += kStride;
    scaled_sum += kStride;
    negative_sum += 2 * kStride;
    wide += kStride;
  }
};

// The same of kRows rows whose q of these blocks lie as words, [block][kRows][32].
template <int kRows>
struct WordsCursor : RowsCursor {
  const int16_t* words;

  WordsCursor(RowsCursor rows, const int16_t* first) : RowsCursor(rows), words(first) {}
  void Advance() {
    RowsCursor::Advance();
    words += 32 * kRows;
  }
};

// Minus the sum of q over a block's part, in all lanes.
template <int kParts, int kPart>
inline I32x16 NegativeSum(const int32_t* sums) {
  if constexpr (kParts == 1) return SplatInt(sums[0]);
  return kPart == 0 ? SplatInt(sums[1]) : SplatInt(sums[0] - sums[1]);
}

// ---- The weights of one block -------------------------------------------------------------------

// As packed, of one panel.
template <TensorType kType>
struct PackedBlocks {
  static constexpr CodeFormat kFormat = FormatOf(kType);
  static constexpr int kPanels = 1;
  static constexpr bool kAsksAhead = true, kInWords = false;
  static constexpr int64_t kPanelStride = 0;

  const uint8_t* codes;
  const std::byte* scales;
  const size_t panel_bytes;

  PackedBlocks(const std::byte* panel, int32_t k)
      : codes(reinterpret_cast<const uint8_t*>(panel)),
        scales(panel + static_cast<size_t>(k / 32) * CodeBytesPerBlock(kFormat)),
        panel_bytes(PanelBytes(kFormat, k)) {}
  // Few rows wait for memory, and a panel's codes and scales are two streams too short for the
  // processor's own prefetching: the block of a panel further on is asked for. Always inline: g++
  // 12 takes a function that does nothing else for one without effect, and drops the call.
  [[gnu::always_inline]] void AskAhead(size_t panels) const {
    constexpr int kLines = static_cast<int>(CodeBytesPerBlock(kFormat) / 64);
    const size_t ahead = panels * panel_bytes;
    ForEach<kLines>(HOLDFAST_EACH { __builtin_prefetch(codes + ahead + 64 * i); });
    __builtin_prefetch(scales + ahead);
  }
  static F32x16 LoadScales(const std::byte* p) {
    if constexpr (kFormat.half_scales) return LoadHalf(p);
    return Load(reinterpret_cast<const float*>(p));
  }
  F32x16 Scale(int, int part) const {
    return LoadScales(scales + static_cast<size_t>(part) * ScaleBytes(kFormat));
  }
  F32x16 ScaleOfHigh(int, int part) const { return Mul(Scale(0, part), Splat(256.0f)); }
  F32x16 Offset(int) const { return Scale(0, 32 / kFormat.scale_block); }
  void Advance() {
    codes += CodeBytesPerBlock(kFormat);
    scales += ScaleBytesPerBlock(kFormat);
  }
};

// A block unpacked: its codes a byte each, vector v holding those of k = 4v + t, or a word each.
template <TensorType kType>
struct UnpackedBlock {
  static constexpr int kParts = 32 / FormatOf(kType).scale_block;
  static constexpr bool kInWords = DotsOfWords<FormatOf(kType).max_code>::kUsed;

  uint8_t codes[kInWords ? 1024 : 512];
  // Those of the high bytes, 256 times those of the file; in words, of the whole.
  float scales[kParts][kPanelRows];
  float offsets[kPanelRows];  // if the format has them
};

// Of kCount panels of kStride whose blocks lie side by side.
template <TensorType kType, int kCount, int kStride>
struct UnpackedBlocks {
  using Block = UnpackedBlock<kType>;
  static constexpr CodeFormat kFormat = FormatOf(kType).InBytes();
  static constexpr int kPanels = kCount;
  static constexpr bool kAsksAhead = false, kInWords = Block::kInWords;
  static constexpr int64_t kPanelStride = sizeof(Block);

  const Block* block;
  const uint8_t* codes;

  explicit UnpackedBlocks(const Block* first) : block(first), codes(first->codes) {}
  F32x16 Scale(int panel, int part) const {
    const F32x16 scale = Load(block[panel].scales[part]);
    return kInWords ? scale : Mul(scale, Splat(1.0f / 256.0f));
  }
  F32x16 ScaleOfHigh(int panel, int part) const { return Load(block[panel].scales[part]); }
  F32x16 Offset(int panel) const { return Load(block[panel].offsets); }
  void Advance() {
    block += kStride;
    codes = block->codes;
  }
};

// ---- The product --------------------------------------------------------------------------------

// acc[row * panels + panel] += `blocks` blocks of the rows from x on, times those of the panels.
template <int kRows, typename Weights, typename Cursor>
[[gnu::always_inline]] inline void MultiplyBlocks(Weights w, Cursor x, int32_t blocks,
                                                  F32x16 (&acc)[kRows * Weights::kPanels]) {
  constexpr CodeFormat kFormat = Weights::kFormat;
  constexpr int kPanels = Weights::kPanels, kSums = kRows * kPanels;
  constexpr int kVectors = static_cast<int>(CodeBytesPerBlock(kFormat) / 64);
  constexpr int kParts = 32 / kFormat.scale_block;  // of a block, each with its own scales
  constexpr bool kSignedDots = kSignedDotsOf8Bits && kFormat.max_code == 255;
  constexpr bool kTakeZeroPoint = kFormat.zero_point != 0 && !kSignedDots;
  constexpr int kZeroPointBits = Log2(kFormat.zero_point);
  for (int32_t b = 0; b < blocks; ++b) {
    if constexpr (Weights::kAsksAhead) w.AskAhead(1);
    if constexpr (kFormat.has_offset) {
      F32x16 offset[kPanels];
      ForEach<kPanels>(HOLDFAST_EACH { offset[i] = w.Offset(i); });
      ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
        const F32x16 sum = Splat(x.scaled_sum[r]);
        ForEach<kPanels>(
            HOLDFAST_EACH { acc[r * kPanels + i] = Fma(offset[i], sum, acc[r * kPanels + i]); });
      });
    }
    const auto multiply = [&](auto is_wide) __attribute__((always_inline)) {
      ForEach<kParts>([&](auto part) __attribute__((always_inline)) {
        constexpr int kBegin = kVectors / kParts * part;
        constexpr int kEnd = kBegin + kVectors / kParts;
        I32x16 dot[kSums];
        ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
          I32x16 start = SplatInt(0);
          if constexpr (kTakeZeroPoint && !is_wide) {
            // Of bytes the sum is a multiple of 256.
            start =
                ShiftRight<8 - kZeroPointBits>(NegativeSum<kParts, part>(x.negative_sum + 2 * r));
          }
          ForEach<kPanels>(HOLDFAST_EACH { dot[r * kPanels + i] = start; });
        });
        if constexpr (Weights::kInWords) {
          static_assert(kParts == 1 && !kTakeZeroPoint && is_wide);
          DotsOfWords<kFormat.max_code>::template Add<kRows, kPanels>(
              w.codes, Weights::kPanelStride, x.words, dot);
        } else {
          DotCodes<kFormat, kRows, kPanels, kBegin, kEnd>(w.codes, Weights::kPanelStride, x.high,
                                                          32, dot);
        }
        if constexpr (is_wide && !Weights::kInWords) {
          ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
            I32x16 start = SplatInt(0);
            if constexpr (kTakeZeroPoint) {
              start = ShiftLeft<kZeroPointBits>(NegativeSum<kParts, part>(x.negative_sum + 2 * r));
            }
            ForEach<kPanels>(HOLDFAST_EACH {
              I32x16& sum = dot[r * kPanels + i];
              sum = ShiftLeft<8>(sum);
              if constexpr (kTakeZeroPoint) sum = AddInt(sum, start);
            });
          });
          DotCodes<kFormat, kRows, kPanels, kBegin, kEnd>(w.codes, Weights::kPanelStride, x.low, 32,
                                                          dot);
        }
        F32x16 scale[kPanels];
        ForEach<kPanels>(HOLDFAST_EACH {
          if constexpr (is_wide) scale[i] = w.Scale(i, part);
          if constexpr (!is_wide) scale[i] = w.ScaleOfHigh(i, part);
        });
        ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
          const F32x16 x_scale = Splat(x.scale[r]);
          ForEach<kPanels>(HOLDFAST_EACH {
            constexpr int kSum = r * kPanels + i;
            acc[kSum] = Fma(Mul(scale[i], x_scale), ToFloat(dot[kSum]), acc[kSum]);
          });
        });
      });
    };
    if constexpr (Weights::kInWords) {
      multiply(Constant<1>{});
    } else if (AnyOf<kRows>(x.wide)) {
      multiply(Constant<1>{});
    } else {
      multiply(Constant<0>{});
    }
    w.Advance();
    x.Advance();
  }
}

// Rows first_row .. first_row + kRows of y for one panel, as packed.
template <TensorType kType, int kRows>
void MultiplyPanel(const std::byte* panel, const QuantizedRows& x, int32_t k, int32_t first_row,
                   float* y, int64_t y_stride, int32_t columns) {
  static_assert(RowBlocks::kGroup % kRows == 0);
  F32x16 acc[kRows];
  ForEach<kRows>(HOLDFAST_EACH { acc[i] = Zero(); });
  MultiplyBlocks<kRows>(PackedBlocks<kType>(panel, k), RowsCursor(x, k, first_row, 0), k / 32, acc);
  float* out = y + first_row * y_stride;
  ForEach<kRows>(HOLDFAST_EACH { StoreUpTo(out + i * y_stride, columns, acc[i]); });
}

// The rows that are left, by halves of the largest group.
template <TensorType kType, int kRows>
void MultiplyRows(const std::byte* panel, const QuantizedRows& x, int32_t k, int32_t first_row,
                  int32_t rows, float* y, int64_t y_stride, int32_t columns) {
  for (; rows - first_row >= kRows; first_row += kRows) {
    MultiplyPanel<kType, kRows>(panel, x, k, first_row, y, y_stride, columns);
  }
  if constexpr (kRows > 1) {
    MultiplyRows<kType, kRows / 2>(panel, x, k, first_row, rows, y, y_stride, columns);
  }
}

// ---- Many rows ----------------------------------------------------------------------------------

// From here on a panel is unpacked once instead of with every few rows.
inline constexpr int32_t kUnpackRows = 32;
// Of k at once, so that the unpacked panels of a tile stay in a first-level cache of 48 KB (32 KB
// with one panel).
inline constexpr int32_t kUnpackBlocks = 18;
// That share an activation's way to words.
inline constexpr int kUnpackedPanelsInWords = 4;
// Activations of a pass stay in the second-level cache from panel to panel.
inline constexpr int32_t kPassBytes = 512 << 10;

template <TensorType kType>
void UnpackPanel(const std::byte* panel, int32_t k, int32_t block_begin, int32_t block_end,
                 int64_t stride, UnpackedBlock<kType>* out) {
  constexpr CodeFormat kFormat = FormatOf(kType);
  PackedBlocks<kType> packed(panel, k);
  packed.codes += static_cast<size_t>(block_begin) * CodeBytesPerBlock(kFormat);
  packed.scales += static_cast<size_t>(block_begin) * ScaleBytesPerBlock(kFormat);
  for (int32_t b = block_begin; b < block_end; ++b) {
    packed.AskAhead(static_cast<size_t>(stride));
    if constexpr (UnpackedBlock<kType>::kInWords) {
      DotsOfWords<kFormat.max_code>::UnpackCodes(packed.codes, out->codes);
    } else {
      UnpackCodes<kFormat.code_bits>(packed.codes, out->codes);
    }
    for (int part = 0; part < UnpackedBlock<kType>::kParts; ++part) {
      constexpr bool kInWords = UnpackedBlock<kType>::kInWords;
      Store(out->scales[part], kInWords ? packed.Scale(0, part) : packed.ScaleOfHigh(0, part));
    }
    if constexpr (kFormat.has_offset) Store(out->offsets, packed.Offset(0));
    packed.Advance();
    out += stride;
  }
}

// The q of kRows rows from x on, of `blocks` blocks, as words [block][kRows][32].
template <int kMaxCode, int kRows>
void WidenRows(RowsCursor x, int32_t blocks, int16_t* words) {
  for (int32_t b = 0; b < blocks; ++b) {
    for (int r = 0; r < kRows; ++r) {
      DotsOfWords<kMaxCode>::Widen(x.high + 32 * r, x.low + 32 * r, words);
      words += 32;
    }
    x.Advance();
  }
}

// A span of k: blocks [begin, end) of kPanels panels whose outputs begin at y, times kRows rows
// from x on. `unpacked`: the panels' blocks side by side, kStride of them.
template <TensorType kType, int kPanels, int kStride, int kRows, typename Cursor>
[[gnu::always_inline]] inline void MultiplySpan(const UnpackedBlock<kType>* unpacked, Cursor x,
                                                int32_t begin, int32_t end, float* y,
                                                int64_t y_stride, int32_t columns) {
  F32x16 acc[kRows * kPanels];
  ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
    ForEach<kPanels>(HOLDFAST_EACH {
      const float* at = y + r * y_stride + i * kPanelRows;
      // Asked for before a thousand cycles of products: of many rows the lines lie far apart, and
      // last in the other cores' caches. Prefill of 512 rows was 7 % slower without.
      __builtin_prefetch(at, 1);
      const int32_t left = columns - i * kPanelRows;
      F32x16& sum = acc[r * kPanels + i];
      if (begin == 0) {
        sum = Zero();
      } else if (left >= kPanelRows) {
        sum = Load(at);
      } else {
        sum = LoadPartial(at, left);
      }
    });
  });
  MultiplyBlocks<kRows>(UnpackedBlocks<kType, kPanels, kStride>(unpacked), x, end - begin, acc);
  ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
    ForEach<kPanels>(HOLDFAST_EACH {
      StoreUpTo(y + r * y_stride + i * kPanelRows, columns - i * kPanelRows, acc[r * kPanels + i]);
    });
  });
}

// The same for rows [row, end) of all rows `x`.
template <TensorType kType, int kRows, int kPanels>
void MultiplyUnpacked(const UnpackedBlock<kType>* unpacked, const QuantizedRows& x, int32_t k,
                      int32_t block_begin, int32_t block_end, int32_t row, int32_t end, float* y,
                      int64_t y_stride, int32_t columns) {
  for (; row + kRows <= end; row += kRows) {
    const RowsCursor rows(x, k, row, block_begin);
    float* const out = y + row * y_stride;
    if constexpr (UnpackedBlock<kType>::kInWords) {
      alignas(64) int16_t words[kUnpackBlocks * kRows * 32];
      WidenRows<FormatOf(kType).max_code, kRows>(rows, block_end - block_begin, words);
      for (int panel = 0; panel < kPanels; ++panel) {
        const int32_t column = panel * kPanelRows;
        MultiplySpan<kType, 1, kPanels, kRows>(unpacked + panel, WordsCursor<kRows>(rows, words),
                                               block_begin, block_end, out + column, y_stride,
                                               columns - column);
      }
    } else {
      MultiplySpan<kType, kPanels, kPanels, kRows>(unpacked, rows, block_begin, block_end, out,
                                                   y_stride, columns);
    }
  }
  if constexpr (kRows > 1) {
    if (row < end) {
      MultiplyUnpacked<kType, kRows / 2, kPanels>(unpacked, x, k, block_begin, block_end, row, end,
                                                  y, y_stride, columns);
    }
  }
}

// kPanels panels from `panel` on, rows [row, end).
template <TensorType kType, int kPanels>
void MultiplyManyRows(const PackedMatrix& w, const QuantizedRows& x, int32_t row, int32_t end,
                      int32_t panel, float* y, int64_t y_stride) {
  constexpr int32_t kBlocks =
      UnpackedBlock<kType>::kInWords ? kUnpackBlocks / kPanels : kUnpackBlocks;
  alignas(64) UnpackedBlock<kType> unpacked[kBlocks * kPanels];
  const size_t panel_bytes = PanelBytes(FormatOf(kType), w.k);
  const int32_t blocks = w.k / 32;
  const int32_t spans = (blocks + kBlocks - 1) / kBlocks;
  const int32_t column = panel * kPanelRows;
  for (int32_t s = 0; s < spans; ++s) {
    const int32_t begin = blocks * s / spans, until = blocks * (s + 1) / spans;
    for (int32_t i = 0; i < kPanels; ++i) {
      UnpackPanel<kType>(w.data + static_cast<size_t>(panel + i) * panel_bytes, w.k, begin, until,
                         kPanels, unpacked + i);
    }
    MultiplyUnpacked<kType, kUnpackedRows, kPanels>(unpacked, x, w.k, begin, until, row, end,
                                                    y + column, y_stride, w.n - column);
  }
}

template <TensorType kType>
void MultiplyPanels(const PackedMatrix& w, const QuantizedRows& x, int32_t row_begin,
                    int32_t row_end, int32_t panel_begin, int32_t panel_end, float* y,
                    int64_t y_stride) {
  const size_t panel_bytes = PanelBytes(FormatOf(kType), w.k);
  const int32_t rows_per_pass =
      Most(kUnpackRows, kPassBytes / w.k / RowBlocks::kGroup * RowBlocks::kGroup);
  for (int32_t row = row_begin; row < row_end; row += rows_per_pass) {
    const int32_t end = Least(row_end, row + rows_per_pass);
    int32_t panel = panel_begin;
    if (end - row >= kUnpackRows) {
      constexpr int kPanels =
          UnpackedBlock<kType>::kInWords ? kUnpackedPanelsInWords : kUnpackedPanels;
      for (; panel + kPanels <= panel_end; panel += kPanels) {
        MultiplyManyRows<kType, kPanels>(w, x, row, end, panel, y, y_stride);
      }
      for (; panel < panel_end; ++panel) {
        MultiplyManyRows<kType, 1>(w, x, row, end, panel, y, y_stride);
      }
    }
    for (; panel < panel_end; ++panel) {
      const int32_t column = panel * kPanelRows;
      MultiplyRows<kType, kMatmulRows>(w.data + static_cast<size_t>(panel) * panel_bytes, x, w.k,
                                       row, end, y + column, y_stride, w.n - column);
    }
  }
}

void QuantizedMatmul(const PackedMatrix& w, const QuantizedRows& x, int32_t row_begin,
                     int32_t row_end, int32_t panel_begin, int32_t panel_end, float* y,
                     int64_t y_stride) {
  switch (w.type) {
#define HOLDFAST_CASE(type) \
  case type:                \
    return MultiplyPanels<type>(w, x, row_begin, row_end, panel_begin, panel_end, y, y_stride)
    HOLDFAST_CASE(TensorType::kQ4_0);
    HOLDFAST_CASE(TensorType::kQ4_1);
    HOLDFAST_CASE(TensorType::kQ5_0);
    HOLDFAST_CASE(TensorType::kQ5_1);
    HOLDFAST_CASE(TensorType::kQ8_0);
    HOLDFAST_CASE(TensorType::kQ4_K);
    HOLDFAST_CASE(TensorType::kQ5_K);
    HOLDFAST_CASE(TensorType::kQ6_K);
#undef HOLDFAST_CASE
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBf16:
      break;
  }
}

}  // namespace
}  // namespace holdfast
