#include "server/engine_bound.h"

#include <algorithm>
#include <cstddef>

#include "config/base/check.h"
#include "config/limits.h"

namespace holdfast {
namespace {

Arithmetic ArithmeticOf(TensorType type, WeightsMode mode) {
  if (mode != WeightsMode::kNative) return Arithmetic::kF32;
  if (IsQuantized(type)) return Arithmetic::kInt8;
  return type == TensorType::kBf16 ? Arithmetic::kBf16 : Arithmetic::kF32;
}

void Add(const WeightTensor& matrix, WeightsMode mode, PerArithmetic<int64_t>& multiply_adds) {
  multiply_adds[static_cast<size_t>(ArithmeticOf(matrix.type, mode))] +=
      int64_t{matrix.rows} * matrix.cols;
}

}  // namespace

ModelWork WorkOf(const ModelWeights& weights, WeightsMode mode) {
  ModelWork work;
  for (const LayerWeights& layer : weights.layers) {
    for (const WeightTensor* matrix : {&layer.q, &layer.k, &layer.v}) {
      Add(*matrix, mode, work.row_multiply_adds);
    }
    const bool last = &layer == &weights.layers.back();
    for (const WeightTensor* matrix : {&layer.o, &layer.gate, &layer.up, &layer.down}) {
      Add(*matrix, mode, last ? work.draw_multiply_adds : work.row_multiply_adds);
    }
  }
  Add(weights.head, mode, work.draw_multiply_adds);
  return work;
}

double SecondsOf(const ModelWork& work, double rows, double draws,
                 const PerArithmetic<double>& operations_per_second) {
  double seconds = 0.0;
  for (size_t i = 0; i < operations_per_second.size(); ++i) {
    const double operations = 2.0 * (rows * static_cast<double>(work.row_multiply_adds[i]) +
                                     draws * static_cast<double>(work.draw_multiply_adds[i]));
    if (operations == 0.0) continue;
    CHECK(operations_per_second[i] > 0.0);
    seconds += operations / operations_per_second[i];
  }
  return seconds;
}

double KvBytesRead(const ModelConfig& config, const KvLayout& layout, double context) {
  const double layer_token_bytes =
      static_cast<double>(layout.head_bytes()) * layout.num_kv_heads / kBlockTokens;
  double bytes = 0.0;
  for (int32_t layer = 0; layer < layout.num_layers; ++layer) {
    const bool has_window = config.sliding_window > 0 &&
                            (config.layer_has_window.empty() || config.layer_has_window[layer]);
    bytes += layer_token_bytes *
             (has_window ? std::min(context, double{1} * config.sliding_window) : context);
  }
  return bytes;
}

}  // namespace holdfast
