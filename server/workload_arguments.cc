#include "server/workload_arguments.h"

#include <cmath>

namespace holdfast {

const std::string* VerbArguments::Find(std::string_view flag) const {
  const std::string* found = nullptr;
  for (const CommandLine::Argument& argument : line_.arguments) {
    if (argument.flag == flag) found = &argument.value;
  }
  return found;
}

std::string VerbArguments::Text(std::string_view flag) const {
  const std::string* value = Find(flag);
  return value == nullptr ? "" : *value;
}

void VerbArguments::Number(std::string_view flag, double& out) {
  const std::string* value = Find(flag);
  if (value == nullptr) return;
  double number = 0;
  if (!absl::SimpleAtod(*value, &number) || !std::isfinite(number) || number <= 0) {
    return Fault(flag, "wanted a number above 0", *value);
  }
  out = number;
}

std::optional<absl::Duration> VerbArguments::Time(std::string_view flag) {
  const std::string* value = Find(flag);
  if (value == nullptr) return std::nullopt;
  absl::Duration time;
  if (!absl::ParseDuration(*value, &time) || time < absl::ZeroDuration() ||
      time == absl::InfiniteDuration()) {
    Fault(flag, "wanted a time, as 500ms or 2s", *value);
    return std::nullopt;
  }
  return time;
}

std::optional<int64_t> VerbArguments::Nanos(std::string_view flag) {
  const std::optional<absl::Duration> time = Time(flag);
  return time ? std::optional(absl::ToInt64Nanoseconds(*time)) : std::nullopt;
}

void VerbArguments::Fault(std::string_view flag, std::string_view wanted, std::string_view found) {
  status_.Update(absl::InvalidArgumentError(Concat(flag, ": ", wanted, ", found `", found, "`")));
}

absl::StatusOr<WorkloadOptions> WorkloadOptionsOf(const CommandLine& line) {
  VerbArguments arguments(line);
  WorkloadOptions options;
  arguments.Count("--seed", 0, options.seed);
  arguments.Number("--rate-scale", options.rate_scale);
  arguments.Number("--think-scale", options.think_scale);
  arguments.Number("--length-scale", options.length_scale);
  if (arguments.Find("--arrival-rate") != nullptr) {
    options.arrivals.emplace();
    arguments.Number("--arrival-rate", options.arrivals->rate);
    arguments.Number("--arrival-cv", options.arrivals->cv);
  } else if (const std::string* cv = arguments.Find("--arrival-cv")) {
    arguments.Fault("--arrival-cv", "wanted --arrival-rate beside it", *cv);
  }
  if (arguments.Find("--fit-context") != nullptr) {
    options.context_tokens = 2;
    arguments.Count("--fit-context", 2, *options.context_tokens);
  }
  arguments.Count("--programs-max", 1, options.programs_max);
  options.from = arguments.Time("--from").value_or(options.from);
  options.until = arguments.Time("--until").value_or(options.until);
  if (arguments.Find("--tenants") != nullptr) {
    options.num_tenants = 1;
    arguments.Count("--tenants", 1, *options.num_tenants);
  }
  if (!arguments.status().ok()) return arguments.status();
  return options;
}

Slo SloOf(VerbArguments& arguments) {
  return {.ttft_nanos = arguments.Nanos("--slo-ttft"),
          .tpot_nanos = arguments.Nanos("--slo-tpot"),
          .e2e_nanos = arguments.Nanos("--slo-e2e")};
}

}  // namespace holdfast
