// Which of two orders of eviction has been the better one of late: by recency, or by learnt value.
// Whenever the two name different victims, the eviction is a bet, and time decides it:
//
//   the evicted one is computed again, the spared one not yet reused    the order followed loses
//   the spared one is reused, the evicted one not yet asked for         the order followed wins
//   the spared one leaves unused                                        void
//
// Blocks are counted, so the balance is in tokens found. It fades with evictions, and the other
// order is followed once it is ahead by a tenth of all that was decided. While recency is followed
// the value order is judged too low: what it spares would often have stayed longer than the one
// that was let stay in its place. So it is the one to begin with.
//
// Sources: that two policies are tried against each other and the winner followed is set duelling
// (Qureshi et al., ISCA 2007) and, by regret over ghosts, LeCaR (Vietri et al., HotStorage 2018);
// here no part of the cache is set apart, since prompts that share their beginning cannot be.
//
// Thread: its owner's.    Bound: bets_max open bets, and of spared contents those present. Every
// call O(1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace holdfast {

enum class EvictionOrder : uint8_t { kRecency, kValue };

class OrderDuel final {
 public:
  OrderDuel(EvictionOrder first, size_t bets_max);  // bets_max > 0

  EvictionOrder order() const { return order_; }

  // `evicted` went by order(); the other order would have let `spared` go, which may be the same.
  void OnEvicted(uint64_t evicted, uint64_t spared);
  void OnComputed(uint64_t content);   // again, or for the first time
  void OnReused(uint64_t content);     // found
  void OnForgotten(uint64_t content);  // left for a reason that says nothing

  size_t num_bets() const { return bets_.size(); }

 private:
  struct Bet {
    uint64_t spared = 0;
    uint64_t number = 0;
  };
  struct Spared {
    EvictionOrder by = EvictionOrder::kRecency;
    int64_t num_bets = 0;
  };
  void Decide(EvictionOrder winner, int64_t num_blocks);

  const size_t bets_max_;
  const double keep_;  // of the balance, by each eviction
  EvictionOrder order_;
  double balance_ = 0;                       // blocks won by value less those won by recency
  double decided_ = 0;                       // blocks won by either
  absl::flat_hash_map<uint64_t, Bet> bets_;  // by what was evicted
  absl::flat_hash_map<uint64_t, Spared> spared_;
  std::deque<std::pair<uint64_t, uint64_t>> oldest_;  // evicted content, number
  uint64_t num_made_ = 0;
};

}  // namespace holdfast
