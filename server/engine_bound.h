// How fast the CPU engine could be at most with a model on a machine: what a step must multiply
// and read, over what the machine multiplies and reads (machine_speed.h).
//
// Counted are the products of the weight matrices, one multiply-add a weight and row, quantised
// ones as one 8-bit product, though the engine spends two where an activation has 16 bits;
// the head's only for rows that draw a token. Of memory: all weights as prepared, and the KV in
// front of the rows, once a step. Not counted: attention, norms, activations, the embedding.
#pragma once

#include <array>
#include <cstdint>

#include "engine/linear.h"
#include "engine/weights.h"
#include "kvstore/kv_layout.h"

namespace holdfast {

// How the engine multiplies a matrix's weights: quantised ones by 8-bit products, bf16 ones by
// those of bf16, other float ones in f32.
enum class Arithmetic : uint8_t { kInt8, kF32, kBf16 };
template <typename T>
using PerArithmetic = std::array<T, 3>;  // by Arithmetic

struct ModelWork {
  PerArithmetic<int64_t> row_multiply_adds{};  // of every row: the layers, of the last q, k and v
  // Of a row that draws a token, besides: the rest of the last layer, and the head.
  PerArithmetic<int64_t> draw_multiply_adds{};
};
ModelWork WorkOf(const ModelWeights& weights, WeightsMode mode);

// At the given operations per second; those of arithmetic that the work has none of may be 0.
double SecondsOf(const ModelWork& work, double rows, double draws,
                 const PerArithmetic<double>& operations_per_second);

// KV that one row at `context` reads: of all layers, of no more than the layer's window.
double KvBytesRead(const ModelConfig& config, const KvLayout& layout, double context);

}  // namespace holdfast
