#include "kvstore/eviction/block_value.h"

#include <algorithm>
#include <array>

#include "config/base/check.h"
#include "config/limits.h"

namespace holdfast {
namespace {

constexpr std::array<int32_t, 3> kDepthEnds = {2048 / kBlockTokens, 8192 / kBlockTokens,
                                               32768 / kBlockTokens};
constexpr int32_t kNumDepths = static_cast<int32_t>(kDepthEnds.size()) + 1;
constexpr int32_t kUsesTold = 3;  // 1, 2, more
constexpr int32_t kNumClasses = kUsesTold * kNumDepths;
constexpr uint64_t kReachOfCapacity = 32;
constexpr uint64_t kUsesMax = uint64_t{1} << 22;

}  // namespace

BlockValue::BlockValue(int32_t capacity, const RecomputeCost& cost, absl::Duration half_life)
    : cost_(cost),
      model_(kNumClasses, half_life),
      sample_(kReachOfCapacity * static_cast<uint64_t>(capacity), model_),
      uses_(std::min(kUsesMax, kReachOfCapacity * static_cast<uint64_t>(capacity))) {
  CHECK(capacity > 0);
  CHECK(cost_.token >= 0 && cost_.per_position >= 0 && cost_.token + cost_.per_position > 0);
}

void BlockValue::OnUsed(uint64_t content, int32_t depth, absl::Time now) {
  uses_.Count(content);
  sample_.OnUsed(
      content, [&] { return ClassOf(content, depth); }, now);
}

double BlockValue::CostOf(int32_t depth) const {
  const double middle = (static_cast<double>(depth) + 0.5) * kBlockTokens;
  return kBlockTokens * (cost_.token + cost_.per_position * middle);
}

int32_t BlockValue::ClassOf(uint64_t content, int32_t depth) const {
  const int32_t uses = std::clamp(uses_.Uses(content), 1, kUsesTold);
  const auto at = std::upper_bound(kDepthEnds.begin(), kDepthEnds.end(), depth);
  return static_cast<int32_t>(at - kDepthEnds.begin()) + (uses - 1) * kNumDepths;
}

}  // namespace holdfast
