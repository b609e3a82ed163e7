#include "kvstore/eviction/value_order.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "config/base/check.h"

namespace holdfast {
namespace {

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the n-th number of a stream without state.
uint64_t Draw(uint64_t n) {
  n *= 0x9E3779B97F4A7C15u;
  n = (n ^ (n >> 30)) * 0xBF58476D1CE4E5B9u;
  n = (n ^ (n >> 27)) * 0x94D049BB133111EBu;
  return n ^ (n >> 31);
}

}  // namespace

void ValueOrder::Add(const EvictableBlock& block, absl::Time /*now*/) {
  const auto index = static_cast<uint32_t>(candidates_.size());
  CHECK(by_place_.emplace(block.place, index).second);
  candidates_.push_back({.last_used = block.last_used,
                         .place = block.place,
                         .depth = block.depth,
                         .block_class = value_.ClassOf(block.content, block.depth),
                         .cost = value_.CostOf(block.depth)});
  // Likely to be as little worth as what it takes the place of.
  if (least_.size() < kCarriedOver + 1) least_.push_back({.place = block.place});
  ++num_changes_;
}

void ValueOrder::Remove(int32_t place, EvictionLeave /*why*/, absl::Time /*now*/) {
  const auto at = by_place_.find(place);
  CHECK(at != by_place_.end());
  const uint32_t index = at->second;
  by_place_.erase(at);
  if (index + 1 != candidates_.size()) {
    candidates_[index] = candidates_.back();
    by_place_[candidates_[index].place] = index;
  }
  candidates_.pop_back();
  ++num_changes_;
}

void ValueOrder::OnUsed(uint64_t /*content*/, int32_t /*depth*/, absl::Time /*now*/) {
  ++num_changes_;  // value_ may have learnt
}

double ValueOrder::KeepValue(int32_t place, absl::Time now) const {
  return Rank(candidates_[by_place_.at(place)], now).value;
}

bool ValueOrder::GoesBefore(const Ranked& a, const Ranked& b) {
  return std::tie(a.value, a.last_used, b.depth, a.place) <
         std::tie(b.value, b.last_used, a.depth, b.place);
}

ValueOrder::Ranked ValueOrder::Rank(const Candidate& candidate, absl::Time now) const {
  const double rate = value_.ReuseRate(candidate.block_class, now - candidate.last_used);
  return {.value = candidate.cost * rate,
          .last_used = candidate.last_used,
          .depth = candidate.depth,
          .place = candidate.place};
}

std::optional<Victim> ValueOrder::Worst(absl::Time now) {
  if (candidates_.empty()) return std::nullopt;
  if (!found_ || found_changes_ != num_changes_ || found_at_ != now) {
    found_ = FindWorst(now);
    found_changes_ = num_changes_;
    found_at_ = now;
  }
  return found_;
}

Victim ValueOrder::FindWorst(absl::Time now) {
  std::array<Ranked, kLookedAt> ranked;
  size_t count = 0;
  if (candidates_.size() <= kLookedAt) {
    for (const Candidate& candidate : candidates_) ranked[count++] = Rank(candidate, now);
  } else {
    for (const Ranked& before : least_) {
      const auto at = by_place_.find(before.place);
      if (at != by_place_.end()) ranked[count++] = Rank(candidates_[at->second], now);
    }
    for (uint64_t n = num_changes_ * kLookedAt; count < kLookedAt; ++n) {
      ranked[count++] = Rank(candidates_[Draw(n) % candidates_.size()], now);
    }
  }
  const auto end = ranked.begin() + static_cast<std::ptrdiff_t>(count);
  std::sort(ranked.begin(), end, GoesBefore);
  const auto same = [](const Ranked& a, const Ranked& b) { return a.place == b.place; };
  const auto distinct =
      static_cast<size_t>(std::unique(ranked.begin(), end, same) - ranked.begin());
  least_.assign(ranked.begin(),
                ranked.begin() + static_cast<std::ptrdiff_t>(std::min(distinct, kCarriedOver)));
  return {.place = least_.front().place, .keep_value = least_.front().value};
}

}  // namespace holdfast
