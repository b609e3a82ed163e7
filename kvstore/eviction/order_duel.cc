#include "kvstore/eviction/order_duel.h"

#include <cmath>

#include "config/base/check.h"

namespace holdfast {
namespace {

constexpr double kLead = 0.1;

EvictionOrder Other(EvictionOrder order) {
  return order == EvictionOrder::kValue ? EvictionOrder::kRecency : EvictionOrder::kValue;
}

}  // namespace

OrderDuel::OrderDuel(EvictionOrder first, size_t bets_max)
    : bets_max_(bets_max), keep_(std::exp2(-1.0 / static_cast<double>(bets_max))), order_(first) {
  CHECK(bets_max > 0);
}

void OrderDuel::OnEvicted(uint64_t evicted, uint64_t spared) {
  balance_ *= keep_;
  decided_ *= keep_;
  spared_.erase(evicted);
  if (evicted == spared) return;
  if (oldest_.size() == bets_max_) {
    const auto [content, number] = oldest_.front();
    oldest_.pop_front();
    const auto bet = bets_.find(content);
    if (bet != bets_.end() && bet->second.number == number) bets_.erase(bet);
  }
  bets_[evicted] = {.spared = spared, .number = num_made_};
  oldest_.emplace_back(evicted, num_made_++);
  Spared& entry = spared_[spared];
  if (entry.by != order_) entry = {.by = order_};
  ++entry.num_bets;
}

void OrderDuel::OnComputed(uint64_t content) {
  const auto bet = bets_.find(content);
  if (bet == bets_.end()) return;
  const auto spared = spared_.find(bet->second.spared);
  bets_.erase(bet);
  if (spared == spared_.end()) return;
  const EvictionOrder winner = Other(spared->second.by);
  if (--spared->second.num_bets == 0) spared_.erase(spared);
  Decide(winner, 1);
}

void OrderDuel::OnReused(uint64_t content) {
  const auto spared = spared_.find(content);
  if (spared == spared_.end()) return;
  const Spared won = spared->second;
  spared_.erase(spared);
  Decide(won.by, won.num_bets);
}

void OrderDuel::OnForgotten(uint64_t content) { spared_.erase(content); }

void OrderDuel::Decide(EvictionOrder winner, int64_t num_blocks) {
  const auto blocks = static_cast<double>(num_blocks);
  balance_ += winner == EvictionOrder::kValue ? blocks : -blocks;
  decided_ += blocks;
  if (order_ == EvictionOrder::kRecency && balance_ > kLead * decided_) {
    order_ = EvictionOrder::kValue;
  } else if (order_ == EvictionOrder::kValue && balance_ < -kLead * decided_) {
    order_ = EvictionOrder::kRecency;
  }
}

}  // namespace holdfast
