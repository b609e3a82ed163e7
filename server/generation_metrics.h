// What generation counts, by tenant and model: one set of handles a tenant.
//
// Thread: any.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "config/base/growing_table.h"
#include "config/base/metrics.h"
#include "config/ids.h"
#include "config/tenant_config.h"

namespace holdfast {

// How a request ended, as a metric label.
enum class Outcome : uint8_t {
  kOk,           // every choice reached its end
  kInvalid,      // refused for what it asks
  kShed,         // refused or dropped for lack of room
  kUnavailable,  // draining, or the device failed
  kTimeout,      // request_timeout
  kCancelled,    // by the client
  kError,        // ours
};
inline constexpr size_t kNumOutcomes = 7;
const char* OutcomeName(Outcome outcome);
Outcome OutcomeOf(const absl::Status& status);

struct TenantGenerationMetrics {
  Histogram time_to_first_token;               // holdfast_server_time_to_first_token_seconds
  Histogram inter_token_latency;               // holdfast_server_inter_token_latency_seconds
  Histogram e2e_latency;                       // holdfast_server_e2e_latency_seconds; of kOk alone
  Counter prompt_tokens;                       // holdfast_server_prompt_tokens_total
  Counter cached_tokens;                       // holdfast_server_cached_tokens_total
  Counter completion_tokens;                   // holdfast_server_completion_tokens_total
  std::array<Counter, kNumOutcomes> requests;  // holdfast_server_requests_total{outcome=}
  Counter texts_refused;                       // holdfast_server_texts_refused_total; of kShed
};

class GenerationMetrics final {
 public:
  GenerationMetrics(MetricsRegistry& registry, const std::vector<std::string>& tenant_names,
                    const std::string& model);
  static TenantGenerationMetrics OfTenant(MetricsRegistry& registry, const std::string& tenant,
                                          const std::string& model);
  // New ones behind those that there are: `tenant_names` has all. By one thread at a time.
  void AddTenants(const std::vector<std::string>& tenant_names);
  TenantGenerationMetrics& Of(TenantIndex tenant) {
    return tenants_[static_cast<size_t>(Number(tenant))];
  }
  Gauge& running() { return running_; }  // holdfast_server_requests_running

 private:
  MetricsRegistry& registry_;
  const std::string model_;
  GrowingTable<TenantGenerationMetrics> tenants_{kTenantsMax};
  Gauge running_;
};

}  // namespace holdfast
