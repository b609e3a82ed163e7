// How much a tenant may ask for in a time: token buckets for its requests and its tokens.
//
// A bucket holds `burst` at most and begins full; so much comes in every second, and who takes
// more than is there is told how long it lacks. A body with several prompts takes one request. Its
// tokens are taken as it is submitted: the prompts and max_tokens of every choice, whatever the
// cache holds, so that whether a body is a fault depends on the body alone. What was not computed
// and drawn is given back at its end.
//
// Time is handed in. Where it goes back, the bucket fills on from there: such a jump gives nothing
// and takes nothing.
//
// Thread: the scheduler's alone.    Bound: the configured tenants.
// Source: the leaky bucket as a meter (Turner, IEEE Communications Magazine, October 1986), in the
// usual form that counts what is left.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "config/ids.h"
#include "config/tenant_config.h"
#include "scheduler/admission.h"

namespace holdfast {

class TokenBucket final {
 public:
  TokenBucket(double per_second, double burst);  // both > 0, finite

  // Until `amount` is there, nobody else taking any; zero: it is there. Infinite: it is more than
  // the bucket can hold.
  absl::Duration TimeUntil(double amount, absl::Time now);
  void Take(double amount);      // after TimeUntil was zero for it
  void GiveBack(double amount);  // beyond `burst` it is lost
  // From `now` on. What is in it stays, as far as it has room: nothing is given by a change.
  void SetRate(double per_second, double burst, absl::Time now);

  double burst() const { return burst_; }
  double level() const { return level_; }  // as last told the time

 private:
  void FillUntil(absl::Time now);

  double per_second_;
  double burst_;
  double level_;
  absl::Time filled_until_ = absl::InfinitePast();
};

class TenantRates final {
 public:
  explicit TenantRates(const std::vector<TenantConfig>& tenants);  // empty: one, without bounds

  // New bounds, by TenantIndex, for the tenants that there are, and behind them for new ones. A
  // bound where there was none begins with a full bucket.
  void SetBounds(const std::vector<TenantConfig>& tenants, absl::Time now);

  // kInvalidArgument: a body of so many tokens can never pass.
  absl::Status Check(TenantIndex tenant, int64_t tokens) const;

  // Takes one request and its tokens, which Check has passed. Or nothing: kRequestRate or
  // kTokenRate, whichever lacks for longer.
  std::optional<Refusal> TryTake(TenantIndex tenant, int64_t tokens, absl::Time now);

  // Of a request that took its tokens at `taken`. A bound that came later has given it none.
  void GiveBack(TenantIndex tenant, int64_t tokens, absl::Time taken);

 private:
  struct Buckets {
    std::optional<TokenBucket> requests, tokens;
    absl::Time tokens_since = absl::InfinitePast();
  };
  std::vector<Buckets> tenants_;
};

}  // namespace holdfast
