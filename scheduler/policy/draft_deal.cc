#include "scheduler/policy/draft_deal.h"

#include <algorithm>
#include <cmath>

#include "config/base/check.h"

namespace holdfast {
namespace {

// While all steps have about as many rows nothing tells what one more costs. It is then believed to
// cost the part of a step of one row that it was found to cost, as if this variance had told so.
constexpr double kBeliefRows = 0.5;
constexpr double kPartFade = 0.05;
constexpr double kPrefillFade = 0.1;

// A step that was held up counts as one so many times as long as the mean.
constexpr double kHeldUp = 4;

}  // namespace

void DraftCost::OnStep(int32_t rows, int32_t prefill_rows, absl::Duration took) {
  double seconds = absl::ToDoubleSeconds(took);
  if (!(seconds > 0) || !std::isfinite(seconds)) return;
  if (prefill_rows > 0) {
    if (known()) NotePrefills(std::max(seconds - Of().Of(rows, 0), 0.0) / prefill_rows);
    return;
  }
  if (rows <= 0) return;
  if (known()) seconds = std::min(seconds, kHeldUp * Of().Of(rows, 0));
  for (double* sum : {&weight_, &rows_, &seconds_, &rows_rows_, &rows_seconds_}) *sum *= kFade;
  weight_ += 1;
  rows_ += rows;
  seconds_ += seconds;
  rows_rows_ += static_cast<double>(rows) * rows;
  rows_seconds_ += rows * seconds;
  num_steps_ = std::min(num_steps_ + 1, kStepsMin);
  const double mean = rows_ / weight_;
  if (rows_rows_ / weight_ - mean * mean < kBeliefRows) return;
  const Cost cost = Of();
  row_part_ += kPartFade * (cost.row / (cost.fixed + cost.row) - row_part_);
}

void DraftCost::NotePrefills(double row_seconds) {
  if (prefill_row_ > 0) {
    row_seconds = std::min(row_seconds, kHeldUp * prefill_row_);
    prefill_row_ += kPrefillFade * (row_seconds - prefill_row_);
  } else {
    prefill_row_ = row_seconds;
  }
}

DraftCost::Cost DraftCost::Of() const {
  CHECK(num_steps_ > 0);
  const double rows = rows_ / weight_, seconds = seconds_ / weight_;
  const double variance = std::max(rows_rows_ / weight_ - rows * rows, 0.0);
  const double covariance = rows_seconds_ / weight_ - rows * seconds;
  const double believed = row_part_ * seconds / (1 + row_part_ * (rows - 1));
  const double row = std::clamp((covariance + kBeliefRows * believed) / (variance + kBeliefRows),
                                0.0, seconds / rows);
  return {.fixed = seconds - row * rows, .row = row, .prefill_row = prefill_row_};
}

void DealDrafts(const DraftStep& step, std::span<DraftCandidate> candidates) {
  const auto next_of = [](const DraftCandidate& candidate, double chance) {
    return candidate.dealt < candidate.most ? chance * candidate.lookup->Chance(candidate.dealt)
                                            : 0;
  };
  for (DraftCandidate& candidate : candidates) {
    candidate.drafts = candidate.dealt = 0;
    candidate.expected_tokens = 1;
    candidate.next_chance = next_of(candidate, 1);
  }
  double seconds = step.seconds, gain = 0, most_gain = kDraftGainMin;
  for (int32_t dealt = 0; dealt < step.drafts_max && !candidates.empty(); ++dealt) {
    DraftCandidate& best = *std::max_element(
        candidates.begin(), candidates.end(), [](const DraftCandidate& a, const DraftCandidate& b) {
          return a.next_chance * b.expected_tokens < b.next_chance * a.expected_tokens;
        });
    if (best.next_chance <= 0) break;
    gain += std::log1p(best.next_chance / best.expected_tokens) -
            step.num_sequences * std::log1p(step.row_seconds / seconds);
    seconds += step.row_seconds;
    best.expected_tokens += best.next_chance;
    ++best.dealt;
    best.next_chance = next_of(best, best.next_chance);
    if (gain < most_gain) continue;
    most_gain = gain;
    for (DraftCandidate& candidate : candidates) candidate.drafts = candidate.dealt;
  }
}

}  // namespace holdfast
