#include "scheduler/policy/reload_cost.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "config/base/check.h"

namespace holdfast {
namespace {

constexpr size_t kStep = 0, kDecodeRow = 1, kPrefillRow = 2, kPrefillPlace = 3, kNumTerms = 4;
using Terms = std::array<double, kNumTerms>;
using Gram = std::array<Terms, kNumTerms>;

// What is told by less than this of a term's square is rounding.
constexpr double kSingular = 1e-9;
// A larger choice of terms must explain at least this much more, of 1.
constexpr double kGainMin = 1e-6;

// Choices of terms that explain prefill, the plainest first: rows alone, then with the others.
constexpr std::array<uint32_t, 11> kChoices = {
    1 << kPrefillRow,
    1 << kPrefillPlace,
    1 << kPrefillRow | 1 << kStep,
    1 << kPrefillRow | 1 << kPrefillPlace,
    1 << kPrefillPlace | 1 << kStep,
    1 << kPrefillRow | 1 << kDecodeRow,
    1 << kPrefillRow | 1 << kStep | 1 << kPrefillPlace,
    1 << kPrefillRow | 1 << kStep | 1 << kDecodeRow,
    1 << kPrefillRow | 1 << kPrefillPlace | 1 << kDecodeRow,
    1 << kPrefillPlace | 1 << kStep | 1 << kDecodeRow,
    1 << kPrefillRow | 1 << kStep | 1 << kPrefillPlace | 1 << kDecodeRow,
};

// gram x = moment over the terms of `chosen`, the others 0; `gram` has a diagonal of ones. nullopt:
// they do not determine each other.
std::optional<Terms> Solve(Gram gram, Terms moment, uint32_t chosen) {
  const auto is_chosen = [chosen](size_t term) { return (chosen >> term & 1) != 0; };
  for (size_t pivot = 0; pivot < kNumTerms; ++pivot) {
    if (!is_chosen(pivot)) continue;
    // A Gram matrix is positive definite, so that no rows need be exchanged.
    if (gram[pivot][pivot] < kSingular) return std::nullopt;
    for (size_t row = 0; row < kNumTerms; ++row) {
      if (row == pivot || !is_chosen(row)) continue;
      const double factor = gram[row][pivot] / gram[pivot][pivot];
      for (size_t column = 0; column < kNumTerms; ++column) {
        gram[row][column] -= factor * gram[pivot][column];
      }
      moment[row] -= factor * moment[pivot];
    }
  }
  Terms solution{};
  for (size_t term = 0; term < kNumTerms; ++term) {
    if (is_chosen(term)) solution[term] = moment[term] / gram[term][term];
  }
  return solution;
}

}  // namespace

StepWork WorkOf(const StepPlan& plan) {
  StepWork work;
  for (const PlanSequence& part : plan.sequences) {
    if (part.num_tokens == 1 && part.samples) {
      ++work.decode_rows;
      continue;
    }
    const int64_t rows = part.num_tokens, before = part.first_position;
    work.prefill_rows += part.num_tokens;
    work.prefill_places += rows * before + rows * (rows + 1) / 2;
  }
  return work;
}

ReloadCost::ReloadCost(int32_t chunk_tokens, int64_t bytes_per_token)
    : chunk_tokens_(chunk_tokens), bytes_per_token_(bytes_per_token) {
  CHECK(chunk_tokens > 0 && bytes_per_token > 0);
}

void ReloadCost::OnStep(const StepWork& work, absl::Duration took) {
  const double seconds = absl::ToDoubleSeconds(took);
  if (work.prefill_rows <= 0 || !(seconds > 0) || !std::isfinite(seconds)) return;
  Terms terms{};
  terms[kStep] = 1;
  terms[kDecodeRow] = work.decode_rows;
  terms[kPrefillRow] = work.prefill_rows;
  terms[kPrefillPlace] = static_cast<double>(work.prefill_places);
  for (double& term : terms) term /= seconds;  // relative errors: each step is to give 1
  for (size_t i = 0; i < kNumTerms; ++i) {
    for (size_t j = 0; j < kNumTerms; ++j) {
      gram_[i][j] = gram_[i][j] * kStepFade + terms[i] * terms[j];
    }
    moment_[i] = moment_[i] * kStepFade + terms[i];
  }
  num_steps_ = std::min(num_steps_ + 1, kStepsMin);
}

void ReloadCost::OnRestored(int64_t bytes, absl::Duration took) {
  const double seconds = absl::ToDoubleSeconds(took);
  if (bytes <= 0 || !(seconds > 0) || !std::isfinite(seconds)) return;
  restored_bytes_ = restored_bytes_ * kMoveFade + static_cast<double>(bytes);
  restored_seconds_ = restored_seconds_ * kMoveFade + seconds;
}

ReloadCost::Terms ReloadCost::Coefficients() const {
  Terms scale{};  // each term in units of its own size, so that the equations are well scaled
  for (size_t i = 0; i < kNumTerms; ++i) scale[i] = gram_[i][i] > 0 ? std::sqrt(gram_[i][i]) : 1;
  Gram gram{};
  Terms moment{};
  for (size_t i = 0; i < kNumTerms; ++i) {
    for (size_t j = 0; j < kNumTerms; ++j) gram[i][j] = gram_[i][j] / (scale[i] * scale[j]);
    moment[i] = moment_[i] / scale[i];
  }
  Terms best{};
  double best_gain = 0;
  for (const uint32_t chosen : kChoices) {
    const std::optional<Terms> solution = Solve(gram, moment, chosen);
    if (!solution) continue;
    if (std::any_of(solution->begin(), solution->end(), [](double x) { return !(x >= 0); })) {
      continue;
    }
    double gain = 0;  // what it takes off the sum of squares
    for (size_t i = 0; i < kNumTerms; ++i) gain += (*solution)[i] * moment[i];
    if (gain > best_gain * (1 + kGainMin)) {
      best_gain = gain;
      best = *solution;
    }
  }
  for (size_t i = 0; i < kNumTerms; ++i) best[i] /= scale[i];
  return best;
}

double ReloadCost::ComputeSeconds(const Terms& terms, double num_tokens) const {
  return terms[kStep] * std::ceil(num_tokens / chunk_tokens_) + terms[kPrefillRow] * num_tokens +
         terms[kPrefillPlace] * num_tokens * (num_tokens + 1) / 2;
}

absl::Duration ReloadCost::Compute(int64_t num_tokens) const {
  if (num_steps_ < kStepsMin || num_tokens <= 0) return absl::ZeroDuration();
  return absl::Seconds(ComputeSeconds(Coefficients(), static_cast<double>(num_tokens)));
}

absl::Duration ReloadCost::Restore(int64_t num_tokens) const {
  if (restored_bytes_ <= 0 || num_tokens <= 0) return absl::ZeroDuration();
  return absl::Seconds(static_cast<double>(num_tokens) * static_cast<double>(bytes_per_token_) *
                       (restored_seconds_ / restored_bytes_));
}

double ReloadCost::PlacePerRow() const {
  if (num_steps_ < kStepsMin) return 0;
  const Terms terms = Coefficients();
  return terms[kPrefillRow] > 0 ? terms[kPrefillPlace] / terms[kPrefillRow] : 0;
}

absl::Duration ReloadCost::Of(int64_t num_tokens, int64_t lower_tokens) const {
  if (num_steps_ < kStepsMin || num_tokens <= 0) return absl::ZeroDuration();
  const int64_t lower = std::clamp<int64_t>(lower_tokens, 0, num_tokens);
  const Terms terms = Coefficients();
  const double all = ComputeSeconds(terms, static_cast<double>(num_tokens));
  if (lower == 0 || restored_bytes_ <= 0) return absl::Seconds(all);
  const double rest = all - ComputeSeconds(terms, static_cast<double>(lower));
  return std::min(absl::Seconds(all), Restore(lower) + absl::Seconds(rest));
}

}  // namespace holdfast
