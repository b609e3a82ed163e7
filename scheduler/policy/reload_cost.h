// What it takes to have a context of n tokens again, learnt from the steps and the moves that have
// been: computing it, or bringing it back from a lower tier at the rate at which blocks came back.
//
//   step    = s + d * decode rows + p * prefill rows + q * prefill places
//   compute = s * ceil(n / chunk) + p * n + q * n (n + 1) / 2          (places: what attention
//   read) restore = n * bytes of a token * (seconds / bytes of what was restored)
//
// Only steps with prefill rows teach; each lets the older fade, so that some thousand count. Of the
// four terms those are taken that explain them best without a negative one, by the least squares of
// relative errors: a step that was held up for ten seconds weighs no more than another. One kind of
// step alone does not tell the terms apart; then the rows are what costs.
//
// Source: Continuum (arXiv 2511.02230), PrefillReload: a quadratic in n, there fitted offline.
// Thread: its owner's.    Bound: sums. OnStep and OnRestored are O(1); asking costs some
// microseconds, and nothing allocates.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "engine/step_plan.h"

namespace holdfast {

// What of a step tells what prefill costs.
struct StepWork {
  int32_t decode_rows = 0;
  int32_t prefill_rows = 0;
  int64_t prefill_places = 0;  // positions that their attention reads, each row its own too
  bool operator==(const StepWork&) const = default;
};

// O(sequences of the plan). A part of one row that draws a token is a decode, whatever it is of.
StepWork WorkOf(const StepPlan& plan);

class ReloadCost final {
 public:
  static constexpr int32_t kStepsMin = 4;  // with prefill rows; before, nothing is known
  static constexpr double kStepFade = 0.999;
  static constexpr double kMoveFade = 0.99;

  // chunk_tokens: rows of a prefill in one step. Both > 0.
  ReloadCost(int32_t chunk_tokens, int64_t bytes_per_token);

  void OnStep(const StepWork& work, absl::Duration took);
  // A restore of so many bytes has taken so long from being asked for to being there.
  void OnRestored(int64_t bytes, absl::Duration took);

  // Zero: not known yet.
  absl::Duration Compute(int64_t num_tokens) const;
  absl::Duration Restore(int64_t num_tokens) const;
  // What a place that attention reads costs beside a row, both of prefill; 0: not known yet.
  double PlacePerRow() const;
  // The cheaper way back for a context of which lower tiers will have `lower_tokens` from the start
  // on. Zero while it is not known what computing costs: then nothing says what a miss costs.
  absl::Duration Of(int64_t num_tokens, int64_t lower_tokens = 0) const;

 private:
  static constexpr size_t kNumTerms = 4;  // step, decode rows, prefill rows, prefill places
  using Terms = std::array<double, kNumTerms>;

  Terms Coefficients() const;
  double ComputeSeconds(const Terms& terms, double num_tokens) const;

  const int32_t chunk_tokens_;
  const int64_t bytes_per_token_;
  int32_t num_steps_ = 0;  // counts to kStepsMin
  std::array<Terms, kNumTerms> gram_{};
  Terms moment_{};
  double restored_bytes_ = 0, restored_seconds_ = 0;
};

}  // namespace holdfast
