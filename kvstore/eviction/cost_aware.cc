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
constexpr int32_t kUsesTold = 3;  // 1, 2, more
constexpr int32_t kNumClasses = kUsesTold * kNumDepths;
constexpr uint64_t kReachOfCapacity = 32;
constexpr uint64_t kUsesMax = uint64_t{1} << 22;
constexpr uint64_t kBetsOfCapacity = 4;
constexpr uint64_t kBetsMax = uint64_t{1} << 18;

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
      sample_(kReachOfCapacity * static_cast<uint64_t>(capacity), model_),
      uses_(std::min(kUsesMax, kReachOfCapacity * static_cast<uint64_t>(capacity))),
      duel_(options.first, std::min(kBetsMax, kBetsOfCapacity * static_cast<uint64_t>(capacity))),
      by_recency_(capacity) {
  CHECK(capacity > 0);
  CHECK(cost_.token >= 0 && cost_.per_position >= 0 && cost_.token + cost_.per_position > 0);
}

int32_t CostAwareEviction::ClassOf(int32_t uses, int32_t depth) {
  const auto at = std::upper_bound(kDepthEnds.begin(), kDepthEnds.end(), depth);
  return static_cast<int32_t>(at - kDepthEnds.begin()) +
         (std::min(uses, kUsesTold) - 1) * kNumDepths;
}

double CostAwareEviction::CostOf(const EvictableBlock& block) const {
  const double middle = (static_cast<double>(block.depth) + 0.5) * kBlockTokens;
  return kBlockTokens * (cost_.token + cost_.per_position * middle);
}

double CostAwareEviction::KeepValue(int32_t place, absl::Time now) const {
  return Rank(candidates_[by_place_.at(place)], now).value;
}

void CostAwareEviction::Add(const EvictableBlock& block, absl::Time now) {
  const auto index = static_cast<uint32_t>(candidates_.size());
  CHECK(by_place_.emplace(block.place, index).second);
  const int32_t uses = uses_.Uses(block.content) + block.reuses + 1;
  candidates_.push_back({.block = block,
                         .uses = uses,
                         .block_class = ClassOf(uses, block.depth),
                         .cost = CostOf(block)});
  by_recency_.Add(block, now);
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
  by_recency_.Remove(place, why, now);
  const uint64_t content = candidates_[index].block.content;
  const int32_t uses = candidates_[index].uses;
  if (index + 1 != candidates_.size()) {
    candidates_[index] = candidates_.back();
    by_place_[candidates_[index].block.place] = index;
  }
  candidates_.pop_back();
  switch (why) {
    case EvictionLeave::kReused:
      sample_.OnReused(content, now);
      duel_.OnReused(content);
      break;
    case EvictionLeave::kEvicted:
      sample_.OnEvicted(content);
      uses_.Remember(content, uses);
      if (found_ && found_changes_ == num_changes_ && found_->place == place) {
        duel_.OnEvicted(content, found_spared_);
      } else {
        duel_.OnForgotten(content);
      }
      break;
    case EvictionLeave::kForgotten:
      sample_.OnForgotten(content, now);
      duel_.OnForgotten(content);
      break;
  }
  ++num_changes_;
}

void CostAwareEviction::OnComputed(uint64_t content, absl::Time now) {
  sample_.OnComputed(content, now);
  duel_.OnComputed(content);
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
  if (!found_ || found_changes_ != num_changes_ || found_at_ != now) FindWorst(now);
  return found_;
}

void CostAwareEviction::FindWorst(absl::Time now) {
  const Ranked by_value = LeastByValue(now);
  const Candidate& oldest = candidates_[by_place_.at(by_recency_.Worst(now)->place)];
  const Candidate& cheapest = candidates_[by_place_.at(by_value.place)];
  const bool value = duel_.order() == EvictionOrder::kValue;
  // By the value in both orders, so that instances that follow different ones compare.
  const Ranked chosen = value ? by_value : Rank(oldest, now);
  found_ = Victim{.place = chosen.place, .keep_value = chosen.value};
  found_spared_ = (value ? oldest : cheapest).block.content;
  found_at_ = now;
  found_changes_ = num_changes_;
}

CostAwareEviction::Ranked CostAwareEviction::LeastByValue(absl::Time now) {
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
  return least_.front();
}

}  // namespace holdfast
