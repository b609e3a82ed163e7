#include "server/top_rates.h"

#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "server/metrics_text.h"

namespace holdfast {
namespace {

constexpr std::string_view kRequests = "holdfast_server_requests_total";
constexpr std::string_view kFirstToken = "holdfast_server_time_to_first_token_seconds_bucket";
constexpr std::string_view kNextToken = "holdfast_server_inter_token_latency_seconds_bucket";
constexpr std::array<std::pair<std::string_view, double TopCounts::*>, 3> kTokens = {{
    {"holdfast_server_prompt_tokens_total", &TopCounts::prompt_tokens},
    {"holdfast_server_cached_tokens_total", &TopCounts::cached_tokens},
    {"holdfast_server_completion_tokens_total", &TopCounts::completion_tokens},
}};

bool IsRead(std::string_view name) {
  if (name == kRequests || name == kFirstToken || name == kNextToken) return true;
  for (const auto& [tokens, member] : kTokens) {
    if (name == tokens) return true;
  }
  return false;
}

void Take(const MetricSample& sample, TopReading& reading) {
  if (sample.name == kFirstToken || sample.name == kNextToken) {
    double bound = 0;
    if (!absl::SimpleAtod(sample.Label("le"), &bound) || std::isnan(bound)) return;
    auto& buckets = sample.name == kFirstToken ? reading.first_token : reading.next_token;
    buckets[bound] += sample.value;
    return;
  }
  TopCounts& counts = reading.tenants[sample.Label("tenant")];
  if (sample.name == kRequests) {
    counts.requests += sample.value;
    if (sample.Label("outcome") == "shed") counts.requests_refused += sample.value;
  }
  for (const auto& [tokens, member] : kTokens) {
    if (sample.name == tokens) counts.*member += sample.value;
  }
}

TopRates::Tenant RatesOf(const TopCounts& before, const TopCounts& after, double seconds) {
  TopRates::Tenant rates{.completion_tokens =
                             (after.completion_tokens - before.completion_tokens) / seconds};
  const double prompt = after.prompt_tokens - before.prompt_tokens;
  if (prompt > 0) rates.hit_ratio = (after.cached_tokens - before.cached_tokens) / prompt;
  return rates;
}

std::optional<TopRates::Quantiles> QuantilesBetween(const TopReading::Buckets& before,
                                                    const TopReading::Buckets& after) {
  const auto p50 = QuantileBetween(before, after, 0.5);
  if (!p50) return std::nullopt;
  return TopRates::Quantiles{.p50 = *p50, .p95 = *QuantileBetween(before, after, 0.95)};
}

}  // namespace

TopCounts TopReading::All() const {
  TopCounts all;
  for (const auto& [name, counts] : tenants) {
    for (const auto& [tokens, member] : kTokens) all.*member += counts.*member;
    all.requests += counts.requests;
    all.requests_refused += counts.requests_refused;
  }
  return all;
}

TopReading ReadTopReading(std::string_view metrics, absl::Time at) {
  TopReading reading{.at = at};
  ReadMetrics(metrics, IsRead, [&](const MetricSample& sample) { Take(sample, reading); });
  return reading;
}

TopRates RatesBetween(const TopReading& before, const TopReading& after) {
  TopRates rates{.span = after.at - before.at};
  const double seconds = absl::ToDoubleSeconds(rates.span);
  const TopCounts was = before.All(), is = after.All();
  rates.all = RatesOf(was, is, seconds);
  rates.prompt_tokens_computed =
      (is.prompt_tokens - is.cached_tokens - was.prompt_tokens + was.cached_tokens) / seconds;
  rates.requests = (is.requests - was.requests) / seconds;
  rates.requests_refused = (is.requests_refused - was.requests_refused) / seconds;
  rates.first_token = QuantilesBetween(before.first_token, after.first_token);
  rates.next_token = QuantilesBetween(before.next_token, after.next_token);
  for (const auto& [name, counts] : after.tenants) {
    const auto found = before.tenants.find(name);
    rates.tenants[name] =
        RatesOf(found == before.tenants.end() ? TopCounts{} : found->second, counts, seconds);
  }
  return rates;
}

std::optional<absl::Duration> QuantileBetween(const TopReading::Buckets& before,
                                              const TopReading::Buckets& after, double share) {
  const auto grown = [&before](const auto& bucket) {
    const auto found = before.find(bucket.first);
    return bucket.second - (found == before.end() ? 0 : found->second);
  };
  const double total = after.empty() ? 0 : grown(*after.rbegin());
  if (total <= 0) return std::nullopt;
  const double wanted = share * total;
  double low = 0, below = 0;
  for (const auto& bucket : after) {
    const double up_to = grown(bucket);
    if (up_to >= wanted) {
      if (std::isinf(bucket.first)) break;  // beyond the last bound: at least that
      const double part = up_to > below ? (wanted - below) / (up_to - below) : 1;
      return absl::Seconds(low + (bucket.first - low) * part);
    }
    low = bucket.first;
    below = up_to;
  }
  return absl::Seconds(low);
}

std::optional<TopRates> TopHistory::Add(TopReading reading) {
  if (!readings_.empty()) {
    const TopCounts was = readings_.back().All(), is = reading.All();
    if (is.prompt_tokens < was.prompt_tokens || is.requests < was.requests) readings_.clear();
  }
  while (readings_.size() > 1 && reading.at - readings_.front().at > kTopWindow) {
    readings_.pop_front();
  }
  readings_.push_back(std::move(reading));
  if (readings_.size() == 1) return std::nullopt;
  return RatesBetween(readings_.front(), readings_.back());
}

}  // namespace holdfast
