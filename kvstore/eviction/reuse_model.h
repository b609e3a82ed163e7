// How soon a block of a class is wanted again, given how long it has not been: learnt online.
//
// What is kept is a life table. For each class and each bin of age (log-spaced, two to an octave),
// the time that blocks spent at that age under observation, and the reuses that ended it:
//
//   rate(bin) = reuses(bin) / time(bin)           reuses a second, at that age
//
// Blocks come under observation late (a parent becomes evictable when its last child has left) and
// leave it unused (dropped); both are exact in a life table, where a histogram of gaps would be
// biased. Old observations fade with a half-life. Where little was seen, a class leans on all
// classes together, and these on a rate that falls with age (recency, as in LRU).
//
// What is asked is not the rate at this age but the index of Gittins: the best ratio, over all
// times to wait for, of the chance of a reuse by then to the expected time the block is kept until
// then:
//
//   index(a) = max over t of  P(reuse in (a, a+t]) / E[min(time to reuse, t)]
//
// It is in reuses per block-second, the price at which memory is lent, needs no horizon to be
// chosen, and keeps a block whose good time is yet to come (nobody answers within a second).
//
// Sources: life tables are Kaplan and Meier (J. Am. Stat. Assoc. 1958) with late entry; the index
// is Gittins's (J. R. Stat. Soc. B 1979; for known hazards see Aalto, Ayesta, Righter, Queueing
// Systems 2009); that hits per space and time, learnt by class and age, is what to rank by is from
// LHD (Beckmann, Chen, Cidon, NSDI 2018), whose ratio fixes t at the whole lifetime.
//
// Thread: its owner's.    Bound: classes x bins, at construction. Observe O(bins); Refresh
// O(classes x bins^2 / 2), some 20 us, for the caller to spread; Index O(1).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace holdfast {

class ReuseModel final {
 public:
  static constexpr int32_t kNumBins = 44;  // the last from 2^21 / 8 s on: three days

  ReuseModel(int32_t num_classes, absl::Duration half_life);

  enum class End : uint8_t { kReused, kUnused };
  // A block of the class was watched from one age to a later one, and then reused or not (watched
  // further, or lost sight of).
  void Observe(int32_t block_class, double from_seconds, double to_seconds, End end);

  // Lets old observations fade and takes new ones into Index.
  void Refresh(absl::Time now);

  // Expected reuses a second of keeping a block that was last used so long ago; > 0. Linear between
  // the beginnings of bins: where reuse gets rarer with age, older is less within a bin as well.
  double Index(int32_t block_class, double age_seconds) const {
    const Bins& index = classes_[static_cast<size_t>(block_class)].index;
    const size_t bin = BinOf(age_seconds);
    if (bin + 1 == kNumBins) return index[bin];
    const double begin = BinBegin(bin);
    const double part = (age_seconds - begin) / (BinBegin(bin + 1) - begin);
    return index[bin] + (index[bin + 1] - index[bin]) * (part > 0 ? part : 0);
  }

  static size_t BinOf(double age_seconds);
  static double BinBegin(size_t bin);  // seconds

 private:
  using Bins = std::array<double, kNumBins>;
  struct Class {
    Bins seconds{};  // under observation
    Bins reuses{};
    Bins index{};
  };

  std::vector<Class> classes_;
  const absl::Duration half_life_;
  absl::Time faded_at_ = absl::InfinitePast();
};

}  // namespace holdfast
