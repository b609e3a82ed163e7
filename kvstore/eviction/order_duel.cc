#include "kvstore/eviction/order_duel.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "kvstore/eviction/lru.h"
#include "kvstore/eviction/value_order.h"

namespace holdfast {
namespace {

int32_t StrideFor(int32_t capacity) {
  return std::clamp(capacity / OrderDuel::kGhostBlocks, 1, OrderDuel::kStrideMax);
}

}  // namespace

OrderDuel::OrderDuel(int32_t capacity, EvictionOrder first, absl::Duration half_life,
                     const BlockValue& value)
    : value_(value),
      half_life_(half_life),
      stride_(StrideFor(capacity)),
      by_recency_(capacity / stride_, std::make_unique<LruEviction>(capacity / stride_)),
      by_value_(capacity / stride_, std::make_unique<ValueOrder>(value)),
      order_(first) {}

void OrderDuel::OnUsed(uint64_t content, int32_t depth, absl::Time now) {
  if (depth <= last_depth_) EndChain(now);
  last_depth_ = depth;
  if (depth % stride_ != stride_ / 2) return;
  const int found_more = static_cast<int>(by_value_.Use(content, depth, now)) -
                         static_cast<int>(by_recency_.Use(content, depth, now));
  blocks_.chain += found_more;
  work_.chain += found_more * value_.CostOf(depth);
}

void OrderDuel::EndChain(absl::Time now) {
  by_recency_.BeginChain(now);
  by_value_.BeginChain(now);
  double keep = 1;
  if (now > faded_at_) {
    if (faded_at_ != absl::InfinitePast()) {
      keep = std::exp2(-absl::FDivDuration(now - faded_at_, half_life_));
    }
    faded_at_ = now;
  }
  blocks_.EndChain(keep);
  work_.EndChain(keep);
  if (order_ == EvictionOrder::kRecency && blocks_.IsSure() && work_.IsSure()) {
    order_ = EvictionOrder::kValue;
  } else if (order_ == EvictionOrder::kValue && (blocks_.sum < 0 || work_.sum < 0)) {
    order_ = EvictionOrder::kRecency;
  }
}

void OrderDuel::Lead::EndChain(double keep) {
  sum = sum * keep + chain;
  squares = squares * keep + chain * chain;
  chain = 0;
}

}  // namespace holdfast
