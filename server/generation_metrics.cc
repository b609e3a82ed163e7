#include "server/generation_metrics.h"

namespace holdfast {
const char* OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk:
      return "ok";
    case Outcome::kInvalid:
      return "invalid";
    case Outcome::kShed:
      return "shed";
    case Outcome::kUnavailable:
      return "unavailable";
    case Outcome::kTimeout:
      return "timeout";
    case Outcome::kCancelled:
      return "cancelled";
    case Outcome::kError:
      return "error";
  }
  return "error";
}

Outcome OutcomeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return Outcome::kOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
      return Outcome::kInvalid;
    case absl::StatusCode::kResourceExhausted:
      return Outcome::kShed;
    case absl::StatusCode::kUnavailable:
      return Outcome::kUnavailable;
    case absl::StatusCode::kDeadlineExceeded:
      return Outcome::kTimeout;
    case absl::StatusCode::kCancelled:
      return Outcome::kCancelled;
    default:
      return Outcome::kError;
  }
}

GenerationMetrics::GenerationMetrics(MetricsRegistry& registry,
                                     const std::vector<std::string>& tenant_names,
                                     const std::string& model)
    : registry_(registry),
      model_(model),
      running_(registry.AddGauge("holdfast_server_requests_running",
                                 "Requests accepted and not yet over.", {{"model", model}})) {
  AddTenants(tenant_names);
}

TenantGenerationMetrics GenerationMetrics::OfTenant(MetricsRegistry& registry,
                                                    const std::string& tenant,
                                                    const std::string& model) {
  const MetricLabels labels = {{"tenant", tenant}, {"model", model}};
  const std::vector<double> latency = LatencyBuckets();
  auto requests = [&](Outcome outcome) {
    MetricLabels with_outcome = labels;
    with_outcome["outcome"] = OutcomeName(outcome);
    return registry.AddCounter("holdfast_server_requests_total",
                               "Generation requests that ended, by how they ended.", with_outcome);
  };
  return {
      .time_to_first_token = registry.AddHistogram(
          "holdfast_server_time_to_first_token_seconds",
          "From the arrival of a request to its first token.", latency, labels),
      .inter_token_latency =
          registry.AddHistogram("holdfast_server_inter_token_latency_seconds",
                                "Gap between two tokens of one choice.", latency, labels),
      .e2e_latency = registry.AddHistogram("holdfast_server_e2e_latency_seconds",
                                           "From the arrival of a request to its last token.",
                                           latency, labels),
      .prompt_tokens = registry.AddCounter("holdfast_server_prompt_tokens_total",
                                           "Prompt tokens of started requests.", labels),
      .cached_tokens = registry.AddCounter("holdfast_server_cached_tokens_total",
                                           "Prompt tokens that needed no computing.", labels),
      .completion_tokens = registry.AddCounter("holdfast_server_completion_tokens_total",
                                               "Tokens produced for clients.", labels),
      .requests = {requests(Outcome::kOk), requests(Outcome::kInvalid), requests(Outcome::kShed),
                   requests(Outcome::kUnavailable), requests(Outcome::kTimeout),
                   requests(Outcome::kCancelled), requests(Outcome::kError)},
      .texts_refused = registry.AddCounter(
          "holdfast_server_texts_refused_total",
          "Generation requests refused because too many texts wait for the tokenizer.", labels),
  };
}

void GenerationMetrics::AddTenants(const std::vector<std::string>& tenant_names) {
  for (size_t i = tenants_.size(); i < tenant_names.size(); ++i) {
    tenants_.Add(OfTenant(registry_, tenant_names[i], model_));
  }
}

}  // namespace holdfast
