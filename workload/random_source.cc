#include "workload/random_source.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "config/base/check.h"

namespace holdfast {

double RandomSource::Exponential() { return -std::log(UniformAboveZero()); }

double RandomSource::Normal() {
  const double radius = std::sqrt(2 * Exponential());
  return radius * std::cos(2 * std::numbers::pi * Uniform());
}

double RandomSource::Gamma(double shape) {
  CHECK(shape > 0);
  if (shape < 1) {
    // Gamma(a) is Gamma(a + 1) times U^(1/a).
    const double larger = Gamma(shape + 1);
    return larger * std::pow(UniformAboveZero(), 1 / shape);
  }
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {  // accepts more than 19 of 20 draws
    const double x = Normal();
    const double root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    if (std::log(UniformAboveZero()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

size_t RandomSource::Pick(std::span<const double> cumulative) {
  CHECK(!cumulative.empty() && cumulative.back() > 0);
  const double at = Uniform() * cumulative.back();
  const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), at);
  return std::min<size_t>(static_cast<size_t>(found - cumulative.begin()), cumulative.size() - 1);
}

}  // namespace holdfast
