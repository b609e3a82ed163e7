// Memory for activations that kernels quantise or round.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_table.h"

namespace holdfast {

// x [rows][k] quantised by `kernels`.
class Activations {
 public:
  Activations(int32_t rows, int32_t k)
      : inputs(k),
        wide(RowBlocks::Count(rows, k)),
        high(32 * wide.size()),
        low(32 * wide.size()),
        scale(wide.size()),
        negative_sum(2 * wide.size()),
        scaled_sum(wide.size()) {}
  Activations(const KernelTable& kernels, const std::vector<float>& x, int32_t rows, int32_t k,
              ActivationBits bits = ActivationBits::kMixed)
      : Activations(rows, k) {
    kernels.quantize_rows(x.data(), 0, rows, k, bits, view());
  }
  // The kernels' view of a whole is of pointers to mutable values, also where they only read.
  QuantizedRows view() const {
    return {.high = const_cast<int8_t*>(high.data()),
            .low = const_cast<int8_t*>(low.data()),
            .scale = const_cast<float*>(scale.data()),
            .negative_sum = const_cast<int32_t*>(negative_sum.data()),
            .scaled_sum = const_cast<float*>(scaled_sum.data()),
            .wide = const_cast<uint8_t*>(wide.data())};
  }
  size_t Block(int32_t row, int32_t column) const {
    return static_cast<size_t>(RowBlocks::At(row, column / 32, inputs));
  }
  int32_t Value(int32_t row, int32_t column) const {
    const size_t at = 32 * Block(row, column) + static_cast<size_t>(column % 32);
    return 256 * high[at] + low[at];
  }

  int32_t inputs;
  std::vector<uint8_t> wide;
  std::vector<int8_t> high, low;
  std::vector<float> scale;
  std::vector<int32_t> negative_sum;
  std::vector<float> scaled_sum;
};

// x [rows][k] rounded to bf16 by `kernels`. Rows that no one rounded, to the group's end, are NaN.
class RoundedActivations {
 public:
  RoundedActivations(int32_t rows, int32_t k)
      : inputs(k), values(32 * RowBlocks::Count(rows, k), 0x7fff) {}
  RoundedActivations(const KernelTable& kernels, const std::vector<float>& x, int32_t rows,
                     int32_t k)
      : RoundedActivations(rows, k) {
    kernels.round_rows(x.data(), 0, rows, k, view());
  }
  Bf16Rows view() const { return {.values = const_cast<uint16_t*>(values.data())}; }
  uint16_t Value(int32_t row, int32_t column) const {
    return values[static_cast<size_t>(32 * RowBlocks::At(row, column / 32, inputs) + column % 32)];
  }

  int32_t inputs;
  std::vector<uint16_t> values;
};

}  // namespace holdfast
