#include "kvstore/eviction/cost_aware.h"

#include <algorithm>
#include <tuple>

#include "config/base/check.h"
#include "config/limits.h"

namespace holdfast {
namespace {

constexpr std::array<int32_t, 3> kDepthEnds = {2048 / kBlockTokens, 8192 / kBlockTokens,
                                               32768 / kBlockTokens};
constexpr int32_t kNumDepths = static_cast<int32_t>(kDepthEnds.size()) + 1;
constexpr int32_t kNumClasses = 2 * kNumDepths;
constexpr uint64_t kReachOfCapacity = 32;

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the n-th number of a stream without state.
uint64_t Draw(uint64_t n) {
  n *= 0x9E3779B97F4A7C15u;
  n = (n ^ (n >> 30)) * 0xBF58476D1CE4E5B9u;
  n = (n ^ (n >> 27)) * 0x94D049BB133111EBu;
  return n ^ (n >> 31);
}

}  // namespace

CostAwareEviction::CostAwareEviction(int32_t capacity, const CostAwareOptions& options)
    : cost_(options.cost),
      model_(kNumClasses, options.half_life),
      sample_(kReachOfCapacity * static_cast<uint64_t>(capacity), model_) {
  CHECK(capacity > 0);
  CHECK(cost_.token >= 0 && cost_.per_position >= 0 && cost_.token + cost_.per_position > 0);
}

int32_t CostAwareEviction::ClassOf(const EvictableBlock& block) {
  const auto depth = std::upper_bound(kDepthEnds.begin(), kDepthEnds.end(), block.depth);
  return static_cast<int32_t>(depth - kDepthEnds.begin()) + (block.reuses > 0 ? kNumDepths : 0);
}

double CostAwareEviction::CostOf(const EvictableBlock& block) const {
  const double middle = (static_cast<double>(block.depth) + 0.5) * kBlockTokens;
  return kBlockTokens * (cost_.token + cost_.per_position * middle);
}

double CostAwareEviction::KeepValue(const EvictableBlock& block, absl::Time now) const {
  return CostOf(block) * model_.Index(ClassOf(block), absl::ToDoubleSeconds(now - block.last_used));
}

void CostAwareEviction::Add(const EvictableBlock& block, absl::Time now) {
  const auto index = static_cast<uint32_t>(candidates_.size());
  CHECK(by_place_.emplace(block.place, index).second);
  candidates_.push_back({.block = block, .block_class = ClassOf(block), .cost = CostOf(block)});
  sample_.Watch(block.content, candidates_.back().block_class, block.last_used, now);
  // Likely to be as little worth as what it takes the place of.
  if (least_.size() < kCarriedOver + 1) least_.push_back({.place = block.place});
  ++num_changes_;
}

void CostAwareEviction::Remove(int32_t place, EvictionLeave why, absl::Time now) {
  const auto at = by_place_.find(place);
  CHECK(at != by_place_.end());
  const uint32_t index = at->second;
  by_place_.erase(at);
  const uint64_t content = candidates_[index].block.content;
  if (index + 1 != candidates_.size()) {
    candidates_[index] = candidates_.back();
    by_place_[candidates_[index].block.place] = index;
  }
  candidates_.pop_back();
  switch (why) {
    case EvictionLeave::kReused:
      sample_.OnReused(content, now);
      break;
    case EvictionLeave::kEvicted:
      sample_.OnEvicted(content);
      break;
    case EvictionLeave::kForgotten:
      sample_.OnForgotten(content, now);
      break;
  }
  ++num_changes_;
}

void CostAwareEviction::OnComputed(uint64_t content, absl::Time now) {
  sample_.OnComputed(content, now);
  ++num_changes_;
}

bool CostAwareEviction::GoesBefore(const Ranked& a, const Ranked& b) {
  return std::tie(a.value, a.last_used, b.depth, a.place) <
         std::tie(b.value, b.last_used, a.depth, b.place);
}

CostAwareEviction::Ranked CostAwareEviction::Rank(const Candidate& candidate,
                                                  absl::Time now) const {
  const EvictableBlock& block = candidate.block;
  const double age = absl::ToDoubleSeconds(now - block.last_used);
  return {.value = candidate.cost * model_.Index(candidate.block_class, age),
          .last_used = block.last_used,
          .depth = block.depth,
          .place = block.place};
}

std::optional<Victim> CostAwareEviction::Worst(absl::Time now) {
  if (candidates_.empty()) return std::nullopt;
  if (found_ && found_changes_ == num_changes_ && found_at_ == now) return found_;
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
  found_ = Victim{.place = least_.front().place, .keep_value = least_.front().value};
  found_at_ = now;
  found_changes_ = num_changes_;
  return found_;
}

}  // namespace holdfast
