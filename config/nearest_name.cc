#include "config/nearest_name.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace holdfast {
namespace {

constexpr size_t kNameBytesMax = 64;

// Edit distance with swaps of neighbours (optimal string alignment).
size_t EditDistance(std::string_view a, std::string_view b) {
  std::array<std::array<size_t, kNameBytesMax + 1>, kNameBytesMax + 1> d;
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::optional<std::string_view> NearestName(std::string_view name,
                                            std::span<const std::string_view> known) {
  name = name.substr(0, kNameBytesMax);
  std::optional<std::string_view> nearest;
  size_t fewest = 0;
  for (const std::string_view candidate : known) {
    const std::string_view cut = candidate.substr(0, kNameBytesMax);
    const size_t edits = EditDistance(name, cut);
    if (edits > std::max<size_t>(1, std::max(name.size(), cut.size()) / 3)) continue;
    if (!nearest || edits < fewest) {
      nearest = candidate;
      fewest = edits;
    }
  }
  return nearest;
}

}  // namespace holdfast
