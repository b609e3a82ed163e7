// Watches a sample of contents from each use to the next, whether the cache keeps them or not, and
// tells a ReuseModel what became of them.
//
//              OnUsed             OnUsed: reused, and watched anew
//   (unknown) --------> watched ----------------------------------> watched
//                          | the oldest, when the sample is full: unused
//                          v
//                     (forgotten)
//
// A content is in the sample by a hash of its name alone, so that it is there again when it comes
// back. The share that is watched is halved whenever the sample is full and yet reaches back fewer
// than `reach` arrivals: a cache of any size learns from a look-back many times its size, in memory
// that does not depend on it.
//
// Source: spatially hashed samples of fixed size, SHARDS (Waldspurger et al., FAST 2015); contents
// watched after their eviction are the ghosts of ARC (Megiddo and Modha, FAST 2003).
//
// Thread: its owner's.    Bound: kWatchedMax contents. Every call O(1) amortised; halving
// O(kWatchedMax).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "kvstore/eviction/reuse_model.h"

namespace holdfast {

class ReuseSample final {
 public:
  static constexpr size_t kWatchedMax = 8192;

  ReuseSample(uint64_t reach, ReuseModel& model);  // the model outlives it

  // `class_of()`: its class from now on, called if it is in the sample.
  template <typename ClassOf>
  void OnUsed(uint64_t content, ClassOf class_of, absl::Time now) {
    ++uses_;
    if (IsSampled(content)) Watch(content, class_of(), now);
  }

  size_t size() const { return by_content_.size(); }
  int32_t log2_share() const { return halvings_; }  // one content in 2^this is watched

 private:
  struct Watched {
    uint64_t content = 0;
    absl::Time last_used;
    absl::Time seen_until;  // the model knows of it up to here
    uint64_t number = 0;    // of its use
    int32_t block_class = 0;
    bool present = false;  // in by_content_
  };

  // Names are hashes already, but their low bits serve other tables.
  static uint64_t Mix(uint64_t content) {
    content ^= content >> 32;
    content *= 0x9E3779B97F4A7C15u;
    return content ^ (content >> 29);
  }
  bool IsSampled(uint64_t content) const {
    return (Mix(content) & ((uint64_t{1} << halvings_) - 1)) == 0;
  }
  void Watch(uint64_t content, int32_t block_class, absl::Time now);
  void See(Watched& watched, absl::Time now, ReuseModel::End end);
  void MakeRoom(absl::Time now);
  void HalveShare();
  void Sweep(absl::Time now);

  const uint64_t reach_;
  ReuseModel& model_;
  std::vector<Watched> ring_;  // by use, oldest at begin_ once it is full
  size_t begin_ = 0;
  absl::flat_hash_map<uint64_t, uint32_t> by_content_;  // index into ring_
  int32_t halvings_ = 0;
  uint64_t uses_ = 0;  // sampled or not
  size_t sweep_ = 0;
  uint32_t events_to_refresh_;
};

}  // namespace holdfast
