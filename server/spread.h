// What several measurements of one thing say: the middle one, and how far apart they are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "config/base/check.h"

namespace holdfast {

struct Spread {
  double median = 0.0, lowest = 0.0, highest = 0.0;
};

inline Spread SpreadOf(std::vector<double> values) {  // at least one
  CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {.median = median, .lowest = values.front(), .highest = values.back()};
}

}  // namespace holdfast
