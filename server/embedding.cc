#include "server/embedding.h"

#include <algorithm>
#include <cmath>

#include "config/base/check.h"

namespace holdfast {
namespace {

double Dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

}  // namespace

std::vector<float> ToEmbedding(std::vector<float> state, std::optional<int32_t> dimensions) {
  if (dimensions.has_value()) {
    state.resize(std::min(state.size(), static_cast<size_t>(*dimensions)));
  }
  const double length = std::sqrt(Dot(state, state));
  if (length == 0) return state;
  for (float& number : state) number = static_cast<float>(number / length);
  return state;
}

float CosineOf(std::span<const float> a, std::span<const float> b) {
  CHECK(a.size() == b.size());
  const double lengths = std::sqrt(Dot(a, a) * Dot(b, b));
  return lengths == 0 ? 0.0f : static_cast<float>(std::clamp(Dot(a, b) / lengths, -1.0, 1.0));
}

}  // namespace holdfast
