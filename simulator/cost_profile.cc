#include "simulator/cost_profile.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kBetweenKnots = 1.25;
constexpr size_t kNumRatesFitted = 5;
constexpr int32_t kBatchKnotsMax = 256;

using Vector = std::vector<double>;

// The weight of each knot of batch() for a step of so many rows: seconds are their scalar product
// with the knots' seconds. At most two are not 0.
Vector KnotWeights(const std::vector<int32_t>& knots, int32_t rows) {
  Vector weights(knots.size());
  if (knots.empty()) return weights;
  if (rows <= knots.front() || knots.size() == 1) {
    weights.front() = 1;
    return weights;
  }
  const auto above = std::lower_bound(knots.begin() + 1, knots.end() - 1, rows) - knots.begin();
  const auto i = static_cast<size_t>(above);
  const double share = static_cast<double>(rows - knots[i - 1]) / (knots[i] - knots[i - 1]);
  weights[i - 1] = 1 - share;  // below zero beyond the last: the line goes on
  weights[i] = share;
  return weights;
}

// As KnotWeights, without its memory: the simulator asks at every step.
double BatchSeconds(const std::vector<RowsCost>& batch, int32_t rows) {
  if (batch.empty()) return 0;
  if (rows <= batch.front().rows || batch.size() == 1) return batch.front().seconds;
  const auto above = std::lower_bound(batch.begin() + 1, batch.end() - 1, rows,
                                      [](const RowsCost& a, int32_t b) { return a.rows < b; });
  const RowsCost& high = *above;
  const RowsCost& low = *(above - 1);
  const double share = static_cast<double>(rows - low.rows) / (high.rows - low.rows);
  return std::max(low.seconds + share * (high.seconds - low.seconds), 0.0);
}

std::vector<int32_t> KnotsOf(std::span<const MeasuredStep> steps) {
  std::vector<int32_t> rows;
  for (const MeasuredStep& step : steps) {
    rows.push_back(step.shape.decode_rows + step.shape.prefill_rows);
  }
  std::sort(rows.begin(), rows.end());
  std::vector<int32_t> knots;
  for (const int32_t count : rows) {
    if (knots.empty() || (count > knots.back() && count >= kBetweenKnots * knots.back())) {
      knots.push_back(count);
    }
  }
  return knots;
}

// Of batch() the terms are by what each knot is above the one before: more rows take no less time.
Vector TermsOf(const StepShape& shape, const std::vector<int32_t>& knots) {
  Vector terms = KnotWeights(knots, shape.decode_rows + shape.prefill_rows);
  std::partial_sum(terms.rbegin(), terms.rend(), terms.rbegin());
  terms.insert(terms.end(),
               {static_cast<double>(shape.decode_rows), static_cast<double>(shape.prompt_ends),
                static_cast<double>(shape.decode_places), static_cast<double>(shape.prefill_places),
                static_cast<double>(shape.longest_decode)});
  return terms;
}

StepCost CostOf(const Vector& terms, const std::vector<int32_t>& knots) {
  const double* rates = terms.data() + knots.size();
  StepCost cost{.decode_row = rates[0],
                .prompt_end = rates[1],
                .decode_place = rates[2],
                .prefill_place = rates[3],
                .longest_place = rates[4]};
  double seconds = 0;
  for (size_t i = 0; i < knots.size(); ++i) {
    seconds += terms[i];
    cost.batch.push_back({.rows = knots[i], .seconds = seconds});
  }
  return cost;
}

// Least squares by the normal equations: gram x = moment.
struct NormalEquations {
  std::vector<Vector> gram;
  Vector moment;
};

// Over `chosen` alone; the others are 0. nullopt: they do not determine each other.
std::optional<Vector> Solve(const NormalEquations& equations, const std::vector<size_t>& chosen) {
  const size_t n = chosen.size();
  std::vector<Vector> rows(n, Vector(n + 1));
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) rows[i][j] = equations.gram[chosen[i]][chosen[j]];
    rows[i][n] = equations.moment[chosen[i]];
  }
  for (size_t column = 0; column < n; ++column) {  // Gauss, the largest pivot first
    size_t pivot = column;
    for (size_t i = column + 1; i < n; ++i) {
      if (std::abs(rows[i][column]) > std::abs(rows[pivot][column])) pivot = i;
    }
    std::swap(rows[column], rows[pivot]);
    if (std::abs(rows[column][column]) < 1e-10) return std::nullopt;
    for (size_t i = 0; i < n; ++i) {
      if (i == column) continue;
      const double factor = rows[i][column] / rows[column][column];
      for (size_t j = column; j <= n; ++j) rows[i][j] -= factor * rows[column][j];
    }
  }
  Vector solution(equations.moment.size());
  for (size_t i = 0; i < n; ++i) solution[chosen[i]] = rows[i][n] / rows[i][i];
  return solution;
}

// How much a term that is held at 0 would take off the sum of squares, were it let go.
double PullOf(const NormalEquations& equations, const Vector& x, size_t term) {
  double pull = equations.moment[term];
  for (size_t i = 0; i < x.size(); ++i) pull -= equations.gram[term][i] * x[i];
  return pull;
}

// From `x` towards `wanted` as far as nothing falls below zero; what reaches zero leaves `chosen`.
void StepTowards(const Vector& wanted, std::vector<size_t>& chosen, Vector& x) {
  double share = 1;
  for (const size_t i : chosen) {
    if (wanted[i] < 0) share = std::min(share, x[i] / (x[i] - wanted[i]));
  }
  for (const size_t i : chosen) x[i] += share * (wanted[i] - x[i]);
  std::erase_if(chosen, [&](size_t i) {
    if (wanted[i] > 0 || x[i] > 1e-12) return false;
    x[i] = 0;
    return true;
  });
}

// The least squares without a number below zero. Source: Lawson and Hanson, "Solving Least Squares
// Problems", 1974, chapter 23.
Vector SolveNonNegative(const NormalEquations& equations) {
  const size_t n = equations.moment.size();
  Vector x(n);
  std::vector<size_t> chosen;
  std::vector<bool> barred(n);  // is a sum of those that are chosen
  for (size_t round = 0; round < 10 * n; ++round) {
    std::optional<size_t> next;
    double most = 1e-9;
    for (size_t i = 0; i < n; ++i) {
      if (barred[i] || std::find(chosen.begin(), chosen.end(), i) != chosen.end()) continue;
      if (const double pull = PullOf(equations, x, i); pull > most) {
        most = pull;
        next = i;
      }
    }
    if (!next) break;
    chosen.push_back(*next);
    while (!chosen.empty()) {
      const std::optional<Vector> wanted = Solve(equations, chosen);
      if (!wanted) {
        barred[*next] = true;
        x[*next] = 0;
        std::erase(chosen, *next);
        break;
      }
      const bool holds =
          std::all_of(chosen.begin(), chosen.end(), [&](size_t i) { return (*wanted)[i] >= 0; });
      if (holds) {
        x = *wanted;
        break;
      }
      StepTowards(*wanted, chosen, x);
    }
  }
  return x;
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

// [[rows, seconds], ...], by rising rows.
void ReadBatch(FieldReader& of_step, std::vector<RowsCost>& batch) {
  const Json* list = of_step.Find("batch");
  if (list == nullptr) return;
  const auto is_pair = [](const Json& pair) {
    return pair.is_array() && pair.size() == 2 && pair[0].is_number_unsigned() && pair[0] > 0 &&
           pair[0] <= std::numeric_limits<int32_t>::max() && pair[1].is_number() &&
           std::isfinite(pair[1].get<double>()) && pair[1] >= 0;
  };
  bool holds = list->is_array() && list->size() <= kBatchKnotsMax;
  for (size_t i = 0; holds && i < list->size(); ++i) {
    const Json& pair = (*list)[i];
    holds = is_pair(pair) && (batch.empty() || pair[0] > batch.back().rows);
    if (holds) {
      batch.push_back({.rows = pair[0].get<int32_t>(), .seconds = pair[1].get<double>()});
    }
  }
  if (!holds) of_step.Fault("batch", "wanted pairs of rising rows and seconds");
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
      shape.longest_decode = std::max(shape.longest_decode, places);
      continue;
    }
    shape.prefill_rows += part.num_tokens;
    shape.prefill_places += places;
    if (part.samples) ++shape.prompt_ends;
  }
  return shape;
}

double StepCost::SecondsOf(const StepShape& shape) const {
  double seconds = step + decode_row * shape.decode_rows + prefill_row * shape.prefill_rows +
                   prompt_end * shape.prompt_ends +
                   decode_place * static_cast<double>(shape.decode_places) +
                   prefill_place * static_cast<double>(shape.prefill_places) +
                   longest_place * static_cast<double>(shape.longest_decode);
  return seconds + BatchSeconds(batch, shape.decode_rows + shape.prefill_rows);
}

absl::StatusOr<StepFit> FitStepCost(std::span<const MeasuredStep> steps) {
  if (steps.empty()) return absl::InvalidArgumentError("no steps were measured");
  const std::vector<int32_t> knots = KnotsOf(steps);
  const size_t num_terms = knots.size() + kNumRatesFitted;
  // Each term in units of its greatest value, so that the equations are well scaled.
  Vector scale(num_terms);
  for (const MeasuredStep& step : steps) {
    if (!(step.seconds > 0)) return absl::InvalidArgumentError("a measured step took no time");
    const Vector terms = TermsOf(step.shape, knots);
    for (size_t i = 0; i < num_terms; ++i) {
      scale[i] = std::max(scale[i], terms[i] / step.seconds);
    }
  }
  NormalEquations equations{.gram = std::vector<Vector>(num_terms, Vector(num_terms)),
                            .moment = Vector(num_terms)};
  for (const MeasuredStep& step : steps) {
    Vector terms = TermsOf(step.shape, knots);
    for (size_t i = 0; i < num_terms; ++i) {
      terms[i] = scale[i] > 0 ? terms[i] / (step.seconds * scale[i]) : 0;
    }
    for (size_t i = 0; i < num_terms; ++i) {
      for (size_t j = 0; j < num_terms; ++j) equations.gram[i][j] += terms[i] * terms[j];
      equations.moment[i] += terms[i];
    }
  }
  Vector best = SolveNonNegative(equations);
  for (size_t i = 0; i < num_terms; ++i) {
    if (scale[i] > 0) best[i] /= scale[i];
  }
  StepFit fit{.cost = CostOf(best, knots)};
  fit.quality = QualityOf(steps, fit.cost);
  return fit;
}

std::string FormatCostProfile(const CostProfile& profile) {
  const KvLayout& layout = profile.binding.kv_layout;
  Json batch = Json::array();
  for (const RowsCost& cost : profile.step.batch) batch.push_back({cost.rows, cost.seconds});
  const Json json = {{"format", 2},
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
                       {"prefill_place", profile.step.prefill_place},
                       {"longest_place", profile.step.longest_place},
                       {"batch", std::move(batch)}}},
                     {"between_steps_seconds", profile.between_steps_seconds},
                     {"token_seconds", profile.token_seconds},
                     {"after_pause_seconds", profile.after_pause_seconds},
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
  if (reader.status().ok() && format != 2) reader.Fault("format", "is not 2");
  reader.Count("vocab_size", profile.vocab_size);
  reader.Count("context_tokens", profile.context_tokens);
  reader.Number("between_steps_seconds", profile.between_steps_seconds);
  reader.Number("token_seconds", profile.token_seconds);
  reader.Number("after_pause_seconds", profile.after_pause_seconds);
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
  of_step.Number("longest_place", profile.step.longest_place);
  ReadBatch(of_step, profile.step.batch);
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
                                                "; make one with holdfast bench profile"));
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
