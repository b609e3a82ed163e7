// y[r, n] = sum_k x[r, k] * w[n, k] for weights in f32 or bf16, by oneDNN.
//
// oneDNN chooses its code, and so its order of summation, by the shape it is given. Promise 1 wants
// a row's bits to depend on that row alone: so it only ever sees one shape, kTileRows rows (the
// last tile padded with zeros) by kPanelOutputs outputs, whatever the step looks like. Within the
// shape every row is treated alike, which the unit test checks bit by bit. Called from our workers
// with its own threads switched off. Which instructions oneDNN takes is its choice by the CPU, not
// our Isa; that name is part of EngineInfo::model_digest.
//
// Thread: Run by several workers at once, each with its own number. oneDNN's execute call makes a
// small map of its arguments on the heap; that is the step path's one allocation, and only for
// these weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/worker_pool.h"

namespace holdfast {

enum class DenseType : uint8_t { kF32, kBf16 };

class DenseMatmul {
 public:
  static constexpr int32_t kTileRows = 16;
  static constexpr int32_t kPanelOutputs = 64;

  virtual ~DenseMatmul() = default;

  // False: this build has no oneDNN; the f32 kernel serves.
  static bool Available();
  // Whether bf16 x bf16 -> f32 is native here; else bf16 weights are better widened at load.
  static bool HasNativeBf16();
  // oneDNN's name of the instructions it uses, e.g. "avx512_core_bf16".
  static std::string InstructionsName();

  // `weights`: [n][k] row-major of the given type, copied and reordered by the pool's workers.
  static absl::StatusOr<std::unique_ptr<DenseMatmul>> Create(DenseType type, const void* weights,
                                                             int32_t n, int32_t k,
                                                             WorkerPool& pool);

  int32_t num_panels() const { return num_panels_; }

  // Outputs of panels [panel_begin, panel_end) for `rows` rows; x: [rows][k] without gaps. Columns
  // >= n are not written.
  virtual void Run(int32_t panel_begin, int32_t panel_end, const float* x, int32_t rows, float* y,
                   int64_t y_stride, int32_t worker) = 0;

 protected:
  explicit DenseMatmul(int32_t num_panels) : num_panels_(num_panels) {}

 private:
  const int32_t num_panels_;
};

}  // namespace holdfast
