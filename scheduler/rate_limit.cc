#include "scheduler/rate_limit.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "config/base/check.h"

namespace holdfast {

TokenBucket::TokenBucket(double per_second, double burst)
    : per_second_(per_second), burst_(burst), level_(burst) {
  CHECK(per_second > 0 && burst > 0 && std::isfinite(per_second) && std::isfinite(burst));
}

void TokenBucket::FillUntil(absl::Time now) {
  if (now > filled_until_) {
    // From InfinitePast an infinite time: full, as it was made.
    level_ = std::min(burst_, level_ + absl::ToDoubleSeconds(now - filled_until_) * per_second_);
  }
  filled_until_ = now;
}

absl::Duration TokenBucket::TimeUntil(double amount, absl::Time now) {
  FillUntil(now);
  if (amount <= level_) return absl::ZeroDuration();
  if (amount > burst_) return absl::InfiniteDuration();
  // A moment more: who waits so long finds it there, whatever was rounded.
  return absl::Seconds((amount - level_) / per_second_) + absl::Milliseconds(1);
}

void TokenBucket::Take(double amount) {
  CHECK(amount <= level_);
  level_ -= amount;
}

void TokenBucket::GiveBack(double amount) { level_ = std::min(burst_, level_ + amount); }

void TokenBucket::SetRate(double per_second, double burst, absl::Time now) {
  CHECK(per_second > 0 && burst > 0 && std::isfinite(per_second) && std::isfinite(burst));
  FillUntil(now);
  per_second_ = per_second;
  burst_ = burst;
  level_ = std::min(level_, burst_);
}

TenantRates::TenantRates(const std::vector<TenantConfig>& tenants)
    : tenants_(std::max<size_t>(tenants.size(), 1)) {
  if (!tenants.empty()) SetBounds(tenants, absl::InfinitePast());
}

void TenantRates::SetBounds(const std::vector<TenantConfig>& tenants, absl::Time now) {
  CHECK(tenants.size() >= tenants_.size());
  tenants_.resize(tenants.size());
  const auto set = [now](std::optional<TokenBucket>& bucket, double per_second, double burst) {
    if (per_second <= 0) {
      bucket.reset();
    } else if (bucket.has_value()) {
      bucket->SetRate(per_second, burst, now);
    } else {
      bucket.emplace(per_second, burst);
    }
  };
  for (size_t i = 0; i < tenants.size(); ++i) {
    const TenantConfig& tenant = tenants[i];
    const double requests =
        tenant.requests_burst > 0 ? tenant.requests_burst : std::ceil(tenant.requests_per_second);
    set(tenants_[i].requests, tenant.requests_per_second, requests);
    const int64_t tokens = tenant.tokens_burst > 0 ? tenant.tokens_burst : tenant.tokens_per_minute;
    if (!tenants_[i].tokens.has_value()) tenants_[i].tokens_since = now;
    set(tenants_[i].tokens, static_cast<double>(tenant.tokens_per_minute) / 60,
        static_cast<double>(tokens));
  }
}

absl::Status TenantRates::Check(TenantIndex tenant, int64_t tokens) const {
  const auto& bucket = tenants_[static_cast<size_t>(Number(tenant))].tokens;
  if (!bucket.has_value() || static_cast<double>(tokens) <= bucket->burst()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "prompt and completion may have ", tokens,
      " tokens, of all prompts and choices; the tenant "
      "may ask for ",
      static_cast<int64_t>(bucket->burst()),
      " at once (tokens_burst); shorten the prompt, give a lower max_tokens, or send several "
      "requests"));
}

std::optional<Refusal> TenantRates::TryTake(TenantIndex tenant, int64_t tokens, absl::Time now) {
  Buckets& buckets = tenants_[static_cast<size_t>(Number(tenant))];
  const auto amount = static_cast<double>(tokens);
  const absl::Duration for_requests =
      buckets.requests ? buckets.requests->TimeUntil(1, now) : absl::ZeroDuration();
  const absl::Duration for_tokens =
      buckets.tokens ? buckets.tokens->TimeUntil(amount, now) : absl::ZeroDuration();
  const absl::Duration wait = std::max(for_requests, for_tokens);
  if (wait > absl::ZeroDuration()) {
    const bool by_tokens = for_tokens > for_requests;
    return Refusal{.reason = by_tokens ? ShedReason::kTokenRate : ShedReason::kRequestRate,
                   .retry_after = wait};
  }
  if (buckets.requests) buckets.requests->Take(1);
  if (buckets.tokens) buckets.tokens->Take(amount);
  return std::nullopt;
}

void TenantRates::GiveBack(TenantIndex tenant, int64_t tokens, absl::Time taken) {
  CHECK(tokens >= 0);
  Buckets& buckets = tenants_[static_cast<size_t>(Number(tenant))];
  if (!buckets.tokens.has_value() || taken < buckets.tokens_since) return;
  buckets.tokens->GiveBack(static_cast<double>(tokens));
}

}  // namespace holdfast
