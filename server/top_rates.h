// What a daemon did between two readings of its /metrics: tokens and requests a second, the share
// of prompts that was cached, how long first and next tokens took.
//
// Thread: one at a time. Bound: kTopWindow of readings.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace holdfast {

// As of a point of the page's charts: of less, quantiles jump with every token.
inline constexpr absl::Duration kTopWindow = absl::Seconds(10);

struct TopCounts {
  double prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  double requests = 0, requests_refused = 0;  // the latter among the former
};

struct TopReading {
  using Buckets = std::map<double, double>;  // upper bound to how many are at most that
  absl::Time at;
  std::map<std::string, TopCounts> tenants;  // beyond metrics.tenants_max: `other`
  Buckets first_token, next_token;           // of all tenants, in seconds

  TopCounts All() const;
};
// Of text that is no /metrics of ours: empty.
TopReading ReadTopReading(std::string_view metrics, absl::Time at);

struct TopRates {
  struct Tenant {
    double completion_tokens = 0;     // a second
    std::optional<double> hit_ratio;  // no prompt came: none
  };
  struct Quantiles {
    absl::Duration p50, p95;
  };
  absl::Duration span;  // that they tell of
  Tenant all;
  double prompt_tokens_computed = 0, requests = 0, requests_refused = 0;  // a second
  std::optional<Quantiles> first_token, next_token;
  std::map<std::string, Tenant> tenants;
};
TopRates RatesBetween(const TopReading& before, const TopReading& after);

// By a straight line within a bucket; nullopt: nothing came in between.
std::optional<absl::Duration> QuantileBetween(const TopReading::Buckets& before,
                                              const TopReading::Buckets& after, double share);

class TopHistory final {
 public:
  // Against the oldest reading of kTopWindow, or the one before where looks are further apart.
  // nullopt: there is none, or the daemon has begun anew since.
  std::optional<TopRates> Add(TopReading reading);

 private:
  std::deque<TopReading> readings_;
};

}  // namespace holdfast
