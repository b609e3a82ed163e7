// Random numbers for making load, the same on every platform and standard library: std::<random>
// fixes its engines but leaves its distributions to the library, so the distributions are ours.
// Draws that go through log, sqrt or pow may differ in their last bits between math libraries.
//
// Source: SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
// OOPSLA 2014, with the mixing constants of its public-domain reference code; Gamma by Marsaglia
// and Tsang, "A simple method for generating gamma variables", ACM TOMS 26(3), 2000.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace holdfast {

// A bijection of 64 bits in which every bit of the input moves every bit of the output.
constexpr uint64_t MixBits(uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB;
  return bits ^ (bits >> 31);
}

inline constexpr uint64_t kGoldenGamma = 0x9E3779B97F4A7C15;  // 2^64 over the golden ratio, odd

class RandomSource final {
 public:
  // Sources of one seed and different streams are independent of each other.
  explicit RandomSource(uint64_t seed, uint64_t stream = 0)
      : state_(MixBits(seed + kGoldenGamma) ^ MixBits(stream * kGoldenGamma)) {}

  uint64_t Bits() { return MixBits(state_ += kGoldenGamma); }
  double Uniform() { return static_cast<double>(Bits() >> 11) * 0x1.0p-53; }  // in [0, 1)
  double UniformAboveZero() { return 1 - Uniform(); }                         // in (0, 1]
  double Exponential();                                                       // mean 1
  double Normal();                                                            // mean 0, variance 1
  double Gamma(double shape);  // mean `shape`, variance `shape`; shape > 0
  // An index with the probability of its step in `cumulative`: rising, the last entry the total,
  // > 0; not empty.
  size_t Pick(std::span<const double> cumulative);

 private:
  uint64_t state_;
};

}  // namespace holdfast
