#include "simulator/cost_profile.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kNumTerms = 6;
using Terms = std::array<double, kNumTerms>;

Terms TermsOf(const StepShape& shape) {
  return {1.0,
          static_cast<double>(shape.decode_rows),
          static_cast<double>(shape.prefill_rows),
          static_cast<double>(shape.prompt_ends),
          static_cast<double>(shape.decode_places),
          static_cast<double>(shape.prefill_places)};
}

StepCost CostOf(const Terms& terms) {
  return {.step = terms[0],
          .decode_row = terms[1],
          .prefill_row = terms[2],
          .prompt_end = terms[3],
          .decode_place = terms[4],
          .prefill_place = terms[5]};
}

// Least squares by the normal equations: gram x = moment, over the terms of `chosen` alone; the
// others are 0. nullopt: they do not determine each other.
struct NormalEquations {
  std::array<Terms, kNumTerms> gram{};
  Terms moment{};
};
std::optional<Terms> Solve(const NormalEquations& equations, uint32_t chosen) {
  std::vector<size_t> terms;
  for (size_t i = 0; i < kNumTerms; ++i) {
    if ((chosen >> i & 1) != 0) terms.push_back(i);
  }
  const size_t n = terms.size();
  std::vector<std::vector<double>> rows(n, std::vector<double>(n + 1));
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) rows[i][j] = equations.gram[terms[i]][terms[j]];
    rows[i][n] = equations.moment[terms[i]];
  }
  for (size_t column = 0; column < n; ++column) {  // Gauss, the largest pivot first
    size_t pivot = column;
    for (size_t i = column + 1; i < n; ++i) {
      if (std::abs(rows[i][column]) > std::abs(rows[pivot][column])) pivot = i;
    }
    std::swap(rows[column], rows[pivot]);
    if (std::abs(rows[column][column]) < 1e-12) return std::nullopt;
    for (size_t i = 0; i < n; ++i) {
      if (i == column) continue;
      const double factor = rows[i][column] / rows[column][column];
      for (size_t j = column; j <= n; ++j) rows[i][j] -= factor * rows[column][j];
    }
  }
  Terms solution{};
  for (size_t i = 0; i < n; ++i) solution[terms[i]] = rows[i][n] / rows[i][i];
  return solution;
}

FitQuality QualityOf(std::span<const MeasuredStep> steps, const StepCost& cost) {
  std::vector<double> errors;
  double sum = 0;
  for (const MeasuredStep& step : steps) {
    errors.push_back(std::abs(cost.SecondsOf(step.shape) - step.seconds) / step.seconds);
    sum += errors.back();
  }
  std::sort(errors.begin(), errors.end());
  const auto p95 = static_cast<size_t>(std::ceil(0.95 * static_cast<double>(errors.size()))) - 1;
  return {.steps = static_cast<int32_t>(steps.size()),
          .mean_error = sum / static_cast<double>(steps.size()),
          .p95_error = errors[p95],
          .max_error = errors.back()};
}

// Reads fields of one object and remembers the first fault.
class FieldReader {
 public:
  FieldReader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
    if (!object.is_object()) Fault("", "wanted an object");
  }

  void Number(const char* name, double& out) {
    const Json* value = Find(name);
    if (value == nullptr) return;
    if (!value->is_number()) return Fault(name, "wanted a number");
    const auto number = value->get<double>();
    if (!std::isfinite(number) || number < 0) return Fault(name, "must not be below zero");
    out = number;
  }
  void Count(const char* name, int32_t& out) {
    const Json* value = Find(name);
    if (value == nullptr) return;
    const bool fits = value->is_number_unsigned() &&
                      value->get<uint64_t>() <= std::numeric_limits<int32_t>::max();
    if (!fits) return Fault(name, "wanted a whole number");
    out = value->get<int32_t>();
  }
  void Text(const char* name, std::string& out) {
    const Json* value = Find(name);
    if (value == nullptr) return;
    if (!value->is_string()) return Fault(name, "wanted a string");
    out = value->get<std::string>();
  }
  const Json* Find(const char* name) {
    if (!status_.ok()) return nullptr;
    const auto found = object_.find(name);
    if (found == object_.end()) {
      Fault(name, "is missing");
      return nullptr;
    }
    return &*found;
  }
  void Fault(const char* name, const char* what) {
    status_.Update(absl::InvalidArgumentError(Concat("cost profile: ", path_, name, " ", what)));
  }
  const absl::Status& status() const { return status_; }

 private:
  const Json& object_;
  const std::string path_;
  absl::Status status_;
};

Json ToJson(const TierCost& tier) {
  return {{"restore_bytes_per_second", tier.restore_bytes_per_second},
          {"store_bytes_per_second", tier.store_bytes_per_second},
          {"block_seconds", tier.block_seconds}};
}

absl::Status ReadTier(const Json* json, const char* path, TierCost& tier) {
  if (json == nullptr) return absl::OkStatus();
  FieldReader reader(*json, path);
  if (!reader.status().ok()) return reader.status();
  reader.Number("restore_bytes_per_second", tier.restore_bytes_per_second);
  reader.Number("store_bytes_per_second", tier.store_bytes_per_second);
  reader.Number("block_seconds", tier.block_seconds);
  return reader.status();
}

absl::Status ReadBinding(const Json& json, ProfileBinding& binding) {
  FieldReader reader(json, "binding.");
  if (!reader.status().ok()) return reader.status();
  reader.Text("model_digest", binding.model_digest);
  reader.Text("device", binding.device);
  reader.Count("threads", binding.threads);
  const Json* layout = reader.Find("kv_layout");
  if (layout == nullptr) return reader.status();
  FieldReader of_layout(*layout, "binding.kv_layout.");
  if (!of_layout.status().ok()) return of_layout.status();
  of_layout.Count("num_layers", binding.kv_layout.num_layers);
  of_layout.Count("num_kv_heads", binding.kv_layout.num_kv_heads);
  of_layout.Count("head_dim", binding.kv_layout.head_dim);
  std::string dtype;
  of_layout.Text("dtype", dtype);
  if (const std::optional<KvDtype> known = KvDtypeOfName(dtype)) {
    binding.kv_layout.dtype = *known;
  } else {
    of_layout.Fault("dtype", "is not a KV type");
  }
  return of_layout.status();
}

}  // namespace

StepShape ShapeOf(const StepPlan& plan) {
  StepShape shape;
  for (const PlanSequence& part : plan.sequences) {
    const int64_t rows = part.num_tokens, before = part.first_position;
    const int64_t places = rows * before + rows * (rows + 1) / 2;
    if (rows == 1 && part.samples) {
      ++shape.decode_rows;
      shape.decode_places += places;
      continue;
    }
    shape.prefill_rows += part.num_tokens;
    shape.prefill_places += places;
    if (part.samples) ++shape.prompt_ends;
  }
  return shape;
}

double StepCost::SecondsOf(const StepShape& shape) const {
  return step + decode_row * shape.decode_rows + prefill_row * shape.prefill_rows +
         prompt_end * shape.prompt_ends + decode_place * static_cast<double>(shape.decode_places) +
         prefill_place * static_cast<double>(shape.prefill_places);
}

absl::StatusOr<StepFit> FitStepCost(std::span<const MeasuredStep> steps) {
  if (steps.empty()) return absl::InvalidArgumentError("no steps were measured");
  // Each term in units of its greatest value, so that the equations are well scaled.
  Terms scale{};
  for (const MeasuredStep& step : steps) {
    if (!(step.seconds > 0)) return absl::InvalidArgumentError("a measured step took no time");
    const Terms terms = TermsOf(step.shape);
    for (size_t i = 0; i < kNumTerms; ++i) {
      scale[i] = std::max(scale[i], terms[i] / step.seconds);
    }
  }
  NormalEquations equations;
  for (const MeasuredStep& step : steps) {
    Terms terms = TermsOf(step.shape);
    for (size_t i = 0; i < kNumTerms; ++i) {
      terms[i] = scale[i] > 0 ? terms[i] / (step.seconds * scale[i]) : 0;
    }
    for (size_t i = 0; i < kNumTerms; ++i) {
      for (size_t j = 0; j < kNumTerms; ++j) equations.gram[i][j] += terms[i] * terms[j];
      equations.moment[i] += terms[i];
    }
  }
  // The best solution without a negative coefficient is the free solution of some of the terms
  // (those that it does not hold at zero): with six terms, try all 64.
  double best_gain = -1;
  Terms best{};
  for (uint32_t chosen = 1; chosen < 1u << kNumTerms; ++chosen) {
    const std::optional<Terms> solution = Solve(equations, chosen);
    if (!solution) continue;
    if (std::any_of(solution->begin(), solution->end(), [](double x) { return x < 0; })) continue;
    double gain = 0;  // what it takes off the sum of squares
    for (size_t i = 0; i < kNumTerms; ++i) gain += (*solution)[i] * equations.moment[i];
    if (gain > best_gain) {
      best_gain = gain;
      best = *solution;
    }
  }
  for (size_t i = 0; i < kNumTerms; ++i) {
    if (scale[i] > 0) best[i] /= scale[i];
  }
  StepFit fit{.cost = CostOf(best)};
  fit.quality = QualityOf(steps, fit.cost);
  return fit;
}

std::string FormatCostProfile(const CostProfile& profile) {
  const KvLayout& layout = profile.binding.kv_layout;
  const Json json = {{"format", 1},
                     {"binding",
                      {{"model_digest", profile.binding.model_digest},
                       {"kv_layout",
                        {{"num_layers", layout.num_layers},
                         {"num_kv_heads", layout.num_kv_heads},
                         {"head_dim", layout.head_dim},
                         {"dtype", KvDtypeName(layout.dtype)}}},
                       {"device", profile.binding.device},
                       {"threads", profile.binding.threads}}},
                     {"vocab_size", profile.vocab_size},
                     {"context_tokens", profile.context_tokens},
                     {"step_seconds",
                      {{"step", profile.step.step},
                       {"decode_row", profile.step.decode_row},
                       {"prefill_row", profile.step.prefill_row},
                       {"prompt_end", profile.step.prompt_end},
                       {"decode_place", profile.step.decode_place},
                       {"prefill_place", profile.step.prefill_place}}},
                     {"between_steps_seconds", profile.between_steps_seconds},
                     {"tiers", {{"host", ToJson(profile.host)}, {"disk", ToJson(profile.disk)}}},
                     {"fit",
                      {{"steps", profile.fit.steps},
                       {"mean_error", profile.fit.mean_error},
                       {"p95_error", profile.fit.p95_error},
                       {"max_error", profile.fit.max_error}}}};
  return json.dump(1) + "\n";
}

absl::StatusOr<CostProfile> ParseCostProfile(std::string_view json) {
  const Json document = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return absl::InvalidArgumentError("cost profile: not JSON");
  FieldReader reader(document, "");
  if (!reader.status().ok()) return reader.status();
  CostProfile profile;
  int32_t format = 0;
  reader.Count("format", format);
  if (reader.status().ok() && format != 1) reader.Fault("format", "is not 1");
  reader.Count("vocab_size", profile.vocab_size);
  reader.Count("context_tokens", profile.context_tokens);
  reader.Number("between_steps_seconds", profile.between_steps_seconds);
  const Json* binding = reader.Find("binding");
  const Json* step = reader.Find("step_seconds");
  const Json* tiers = reader.Find("tiers");
  const Json* fit = reader.Find("fit");
  RETURN_IF_ERROR(reader.status());
  RETURN_IF_ERROR(ReadBinding(*binding, profile.binding));

  FieldReader of_step(*step, "step_seconds.");
  RETURN_IF_ERROR(of_step.status());
  of_step.Number("step", profile.step.step);
  of_step.Number("decode_row", profile.step.decode_row);
  of_step.Number("prefill_row", profile.step.prefill_row);
  of_step.Number("prompt_end", profile.step.prompt_end);
  of_step.Number("decode_place", profile.step.decode_place);
  of_step.Number("prefill_place", profile.step.prefill_place);
  RETURN_IF_ERROR(of_step.status());

  FieldReader of_tiers(*tiers, "tiers.");
  RETURN_IF_ERROR(of_tiers.status());
  const Json* host = of_tiers.Find("host");
  const Json* disk = of_tiers.Find("disk");
  RETURN_IF_ERROR(of_tiers.status());
  RETURN_IF_ERROR(ReadTier(host, "tiers.host.", profile.host));
  RETURN_IF_ERROR(ReadTier(disk, "tiers.disk.", profile.disk));

  FieldReader of_fit(*fit, "fit.");
  RETURN_IF_ERROR(of_fit.status());
  of_fit.Count("steps", profile.fit.steps);
  of_fit.Number("mean_error", profile.fit.mean_error);
  of_fit.Number("p95_error", profile.fit.p95_error);
  of_fit.Number("max_error", profile.fit.max_error);
  RETURN_IF_ERROR(of_fit.status());
  return profile;
}

absl::Status CheckBinding(const CostProfile& profile, const ProfileBinding& wanted) {
  const ProfileBinding& binding = profile.binding;
  const auto refuse = [](const char* what, const auto& of, const auto& here) {
    return absl::FailedPreconditionError(Concat("the cost profile was taken of ", what, " ", of,
                                                ", and here is ", here,
                                                "; make one with holdfast bench-profile"));
  };
  if (binding.model_digest != wanted.model_digest) {
    return refuse("model", binding.model_digest, wanted.model_digest);
  }
  if (binding.kv_layout != wanted.kv_layout) {
    return refuse("KV type", KvDtypeName(binding.kv_layout.dtype),
                  KvDtypeName(wanted.kv_layout.dtype));
  }
  if (binding.device != wanted.device) return refuse("device", binding.device, wanted.device);
  if (binding.threads != wanted.threads) return refuse("threads", binding.threads, wanted.threads);
  return absl::OkStatus();
}

// Not a fit (fit.steps is 0): a round split that gives the README's measured speeds, 1004 prompt
// tokens/s at 512 and 147 tokens/s of one stream. For figures that matter, measure.
const CostProfile& DefaultCostProfile() {
  static const CostProfile profile = {
      .binding = {.model_digest = "the default model",
                  .kv_layout = {.num_layers = 30, .num_kv_heads = 3, .head_dim = 64},
                  .device = "two cores, avx512-vnni",
                  .threads = 2},
      .vocab_size = 49152,
      .context_tokens = 8192,
      .step = {.step = 5.6e-3,
               .decode_row = 1.1e-3,
               .prefill_row = 9.6e-4,
               .prompt_end = 1.5e-4,
               .decode_place = 2.2e-7,
               .prefill_place = 7.0e-8},
      .between_steps_seconds = 3e-5,
      .host = {.restore_bytes_per_second = 4e9, .store_bytes_per_second = 4e9}};
  return profile;
}

}  // namespace holdfast
