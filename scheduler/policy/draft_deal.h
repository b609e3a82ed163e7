// How many drafts (policy/prompt_lookup.h) each sequence of a step gets, so that they pay: by how
// likely they are to be right, and by what a row more costs.
//
// A step is taken to last a + b * rows that draw a token + c * rows of prompts, as the steps have
// that were. A sequence that expects e tokens of a step of time t goes on at the rate e / t. A
// draft that is right, with those before it, in p of all cases changes the logarithm of the product
// of all rates, those of n sequences, by
//
//   log (e + p) / e  -  n * log (t + b) / t
//
// so what one gains is weighed against what all others lose by the longer step. Drafts are dealt
// out one by one, to who gains most, and as many stay as give the greatest sum. Alone that is the
// greatest rate; beside seven others that draw a token each, one gets hardly any, unless a prompt
// makes the step a long one anyway, or the others' text repeats itself too. Drafts that together
// gain less than kDraftGainMin are none: a step with drafts cannot be planned ahead, nor can one be
// planned beside it.
//
// Thread: the scheduler's. Bound: DraftCost keeps a few numbers; dealing takes candidates times
// drafts.
#pragma once

#include <cstdint>
#include <span>

#include "absl/time/time.h"
#include "scheduler/policy/prompt_lookup.h"

namespace holdfast {

class DraftCost final {
 public:
  static constexpr int32_t kStepsMin = 8;  // before, nothing is known
  static constexpr double kFade = 0.98;

  // `rows`: those that draw, drafts among them.
  void OnStep(int32_t rows, int32_t prefill_rows, absl::Duration took);

  bool known() const { return num_steps_ >= kStepsMin; }
  struct Cost {  // of a step, in seconds
    double fixed = 0, row = 0, prefill_row = 0;
    double Of(int32_t drawing_rows, int32_t prefill_rows) const {
      return fixed + row * drawing_rows + prefill_row * prefill_rows;
    }
  };
  Cost Of() const;

 private:
  void NotePrefills(double row_seconds);

  int32_t num_steps_ = 0;  // counts to kStepsMin
  double weight_ = 0, rows_ = 0, seconds_ = 0, rows_rows_ = 0, rows_seconds_ = 0;
  double prefill_row_ = 0;
  double row_part_ = 0.4;  // of a step of one row is the row; at first about the CPU engine's
};

struct DraftCandidate {
  const PromptLookup* lookup = nullptr;  // with drafts
  int32_t most = 0;
  int32_t drafts = 0;  // given
  // While they are being dealt.
  int32_t dealt = 0;
  double expected_tokens = 1, next_chance = 0;
};

inline constexpr double kDraftGainMin = 0.04;  // of the sum of logarithms

// For a step of so many sequences that lasts so long without drafts, at most `drafts_max` of them,
// each of which takes a row's time.
struct DraftStep {
  int32_t num_sequences = 0;
  double seconds = 0, row_seconds = 0;
  int32_t drafts_max = 0;
};
void DealDrafts(const DraftStep& step, std::span<DraftCandidate> candidates);

}  // namespace holdfast
