#include "kvstore/eviction/reuse_model.h"

#include <algorithm>
#include <cmath>

#include "config/base/check.h"

namespace holdfast {
namespace {

constexpr double kFirstBinSeconds = 0.125;
// Before anything is known a block of age a is reused at this rate / (a + 1 s): recency decides.
constexpr double kPriorReuses = 0.1;
// How many reuses' worth of evidence the classes together, and each class, lean on their prior.
constexpr double kPriorWeightOfAll = 1;
constexpr double kPriorWeightOfClass = 4;

double BinEnd(size_t bin) { return ReuseModel::BinBegin(bin + 1); }

double PriorRate(size_t bin) {
  return kPriorReuses / ((ReuseModel::BinBegin(bin) + BinEnd(bin)) / 2 + 1);
}

// The best ratio of reuses to time from the beginning of each bin on.
void FillIndex(const std::array<double, ReuseModel::kNumBins>& rate,
               std::array<double, ReuseModel::kNumBins>& index) {
  constexpr size_t kNumBins = ReuseModel::kNumBins;
  std::array<double, kNumBins> stays;   // unused through the bin, if unused up to it
  std::array<double, kNumBins> spends;  // expected seconds in it, likewise
  for (size_t bin = 0; bin < kNumBins; ++bin) {
    stays[bin] = std::exp(-rate[bin] * (BinEnd(bin) - ReuseModel::BinBegin(bin)));
    spends[bin] = (1 - stays[bin]) / rate[bin];
  }
  for (size_t from = 0; from < kNumBins; ++from) {
    double unused = 1, seconds = 0;
    index[from] = 0;
    for (size_t bin = from; bin < kNumBins; ++bin) {
      seconds += unused * spends[bin];
      unused *= stays[bin];
      index[from] = std::max(index[from], (1 - unused) / seconds);
    }
  }
}

}  // namespace

ReuseModel::ReuseModel(int32_t num_classes, absl::Duration half_life)
    : classes_(static_cast<size_t>(num_classes)), half_life_(half_life) {
  CHECK(num_classes > 0 && half_life > absl::ZeroDuration());
  Refresh(absl::InfinitePast());
}

size_t ReuseModel::BinOf(double age_seconds) {
  if (!(age_seconds >= kFirstBinSeconds)) return 0;
  int octave = 0;
  const double mantissa = std::frexp(age_seconds / kFirstBinSeconds, &octave);  // in [1/2, 1)
  const int half = mantissa * mantissa >= 0.5 ? 1 : 0;
  return std::min<size_t>(kNumBins - 1,
                          1 + 2 * static_cast<size_t>(octave - 1) + static_cast<size_t>(half));
}

double ReuseModel::BinBegin(size_t bin) {
  if (bin == 0) return 0;
  const double octaves = std::ldexp(kFirstBinSeconds, static_cast<int>((bin - 1) / 2));
  return bin % 2 == 1 ? octaves : octaves * std::sqrt(2.0);
}

void ReuseModel::Observe(int32_t block_class, double from_seconds, double to_seconds, End end) {
  Class& seen = classes_[static_cast<size_t>(block_class)];
  to_seconds = std::max(to_seconds, 0.0);
  const double from = std::clamp(from_seconds, 0.0, to_seconds);
  const size_t last = BinOf(to_seconds);
  for (size_t bin = BinOf(from); bin <= last; ++bin) {
    const double end_of_bin = bin == last ? to_seconds : BinEnd(bin);
    seen.seconds[bin] += std::max(0.0, end_of_bin - std::max(from, BinBegin(bin)));
  }
  if (end == End::kReused) seen.reuses[last] += 1;
}

void ReuseModel::Refresh(absl::Time now) {
  double keep = 1;
  if (now > faded_at_) {
    if (faded_at_ != absl::InfinitePast()) {
      keep = std::exp2(-absl::FDivDuration(now - faded_at_, half_life_));
    }
    faded_at_ = now;
  }
  Class all;
  for (Class& seen : classes_) {
    for (size_t bin = 0; bin < kNumBins; ++bin) {
      all.seconds[bin] += seen.seconds[bin] *= keep;
      all.reuses[bin] += seen.reuses[bin] *= keep;
    }
  }
  Bins rate_of_all;
  for (size_t bin = 0; bin < kNumBins; ++bin) {
    rate_of_all[bin] = (all.reuses[bin] + kPriorWeightOfAll) /
                       (all.seconds[bin] + kPriorWeightOfAll / PriorRate(bin));
  }
  for (Class& seen : classes_) {
    Bins rate;
    for (size_t bin = 0; bin < kNumBins; ++bin) {
      rate[bin] = (seen.reuses[bin] + kPriorWeightOfClass) /
                  (seen.seconds[bin] + kPriorWeightOfClass / rate_of_all[bin]);
    }
    FillIndex(rate, seen.index);
  }
}

}  // namespace holdfast
