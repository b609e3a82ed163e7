// The angles of rotary position embedding: one frequency per rotated pair, scaled as the model's
// configuration says. Filled per step for its rows and shared by all layers; a table of all
// positions of a 128k context would take 64 MB for what a step computes in microseconds.
//
// Thread: constant after construction; any.
// Sources: RoFormer (Su et al., 2021) for the frequencies; YaRN (Peng et al., 2023), sections 3.2
// to 3.4, with the bounds of its correction range rounded outwards as in Hugging Face's models; the
// wavelength bands of Llama 3.1 (Meta's model description); linear: position interpolation (Chen et
// al., 2023).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model_config.h"

namespace holdfast {

class RopeTable final {
 public:
  // config.dim even; freq_factors empty or dim / 2 values, none of them 0.
  explicit RopeTable(const RopeConfig& config);

  int32_t num_pairs() const { return static_cast<int32_t>(frequencies_.size()); }
  // Radians per position of each pair; after scaling.
  std::span<const double> frequencies() const { return frequencies_; }
  // Multiplies cosine and sine; 1 but for YaRN.
  double magnitude() const { return magnitude_; }

  // cos_sin[i] = magnitude * (cos, sin)(position * frequency of pair i), num_pairs() pairs.
  void Fill(int32_t position, float* cos_sin) const;

 private:
  std::vector<double> frequencies_;
  double magnitude_ = 1.0;
};

}  // namespace holdfast
