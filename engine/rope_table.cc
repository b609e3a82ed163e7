#include "engine/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "config/base/check.h"

namespace holdfast {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;

// Long waves are stretched by the factor, short ones kept, those between blended.
double Llama3Frequency(const RopeConfig& c, double frequency) {
  const double wavelength = kTwoPi / frequency;
  const double original = c.original_context;
  if (wavelength < original / c.high_freq_factor) return frequency;
  if (wavelength > original / c.low_freq_factor) return frequency / c.factor;
  const double blend =
      (original / wavelength - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor);
  return (1.0 - blend) * frequency / c.factor + blend * frequency;
}

// The pair (as a real number) that turns `rotations` times over the original context.
double YarnPairOf(const RopeConfig& c, double rotations) {
  return c.dim * std::log(c.original_context / (rotations * kTwoPi)) / (2.0 * std::log(c.theta));
}

void ScaleByYarn(const RopeConfig& c, std::vector<double>& frequencies) {
  const double low = std::max(std::floor(YarnPairOf(c, c.beta_fast)), 0.0);
  double high = std::min(std::ceil(YarnPairOf(c, c.beta_slow)), c.dim - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / c.factor * ramp + frequencies[i] * (1.0 - ramp);
  }
}

double YarnMagnitude(const RopeConfig& c) {
  if (c.attention_factor.has_value()) return *c.attention_factor;
  return c.factor > 1.0f ? 0.1 * std::log(static_cast<double>(c.factor)) + 1.0 : 1.0;
}

}  // namespace

RopeTable::RopeTable(const RopeConfig& c) : frequencies_(static_cast<size_t>(c.dim / 2)) {
  CHECK(c.dim >= 0 && c.dim % 2 == 0);
  CHECK(c.freq_factors.empty() || c.freq_factors.size() == frequencies_.size());
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    frequencies_[i] = std::pow(static_cast<double>(c.theta), -2.0 * static_cast<double>(i) / c.dim);
    if (!c.freq_factors.empty()) frequencies_[i] /= c.freq_factors[i];
  }
  switch (c.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      for (double& frequency : frequencies_) frequency /= c.factor;
      break;
    case RopeScaling::kLlama3:
      for (double& frequency : frequencies_) frequency = Llama3Frequency(c, frequency);
      break;
    case RopeScaling::kYarn:
      ScaleByYarn(c, frequencies_);
      magnitude_ = YarnMagnitude(c);
      break;
  }
}

void RopeTable::Fill(int32_t position, float* cos_sin) const {
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    const double angle = position * frequencies_[i];
    cos_sin[2 * i] = static_cast<float>(magnitude_ * std::cos(angle));
    cos_sin[2 * i + 1] = static_cast<float>(magnitude_ * std::sin(angle));
  }
}

}  // namespace holdfast
