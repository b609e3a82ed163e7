#include "scheduler/policy/memoryfulness.h"

#include <algorithm>
#include <cmath>

#include "config/base/check.h"

namespace holdfast {

Memoryfulness::Memoryfulness(double fade) : fade_(fade) { CHECK(fade > 0 && fade <= 1); }

void Memoryfulness::AddProgram(int64_t num_turns) {
  CHECK(num_turns > 0);
  const auto n = static_cast<double>(num_turns);
  const auto add = [this](double& sum, double value) { sum = sum * fade_ + value; };
  add(n_, n);
  add(x_, n * (n + 1) / 2);
  add(y_, n * (n - 1) / 2);
  add(xx_, n * (n + 1) * (2 * n + 1) / 6);
  add(yy_, (n - 1) * n * (2 * n - 1) / 6);
  add(xy_, (n - 1) * n * (n + 1) / 6);
}

double Memoryfulness::value() const {
  const double variance_x = n_ * xx_ - x_ * x_;
  const double variance_y = n_ * yy_ - y_ * y_;
  // Relative to what they are differences of, so that rounding is not taken for variance.
  constexpr double kRounding = 1e-12;
  if (variance_x <= kRounding * n_ * xx_ || variance_y <= kRounding * n_ * yy_) return 1;
  const double correlation = (n_ * xy_ - x_ * y_) / std::sqrt(variance_x * variance_y);
  return std::clamp(-correlation, -1.0, 1.0);
}

}  // namespace holdfast
