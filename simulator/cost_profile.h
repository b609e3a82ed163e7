// What a step takes on one device, as a sum over what is in it, so that the simulator need not
// compute it:
//
//   seconds = batch(d + p) + step + decode_row * d + prefill_row * p + prompt_end * e
//                  + decode_place * c + longest_place * l + prefill_place * q
//
//   d  rows that compute one sequence's next token    c  places that their attention reads
//   p  rows of prefill chunks                         q  likewise of prefill rows, each row its own
//   e  chunks that reach the prompt's end: their last row goes through all of the last layer and
//      the head, as each decode does
//   l  of c, those of the longest sequence: it is not split evenly over the threads
//
// batch() is what the matrices take by the number of rows, which no line describes: up to about
// four rows the weights' way from memory is all, then rows count, and tiles of the kernels show. It
// is given at some counts of rows, and lies on lines between them. A fit has it in the place of
// step and prefill_row; what is written by hand has those.
//
// Computing KV again follows from this; bringing it back from a lower tier takes its bytes at the
// tier's rate. A profile is fitted to measured steps (step_measurement.h) and holds for one model,
// KV layout, device and number of threads: it is bound to them, and says how well it fits.
//
// Coefficients are never below zero, and batch() never falls: a negative one would make long steps
// of what was not measured shorter than short ones.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/step_plan.h"
#include "kvstore/kv_layout.h"

namespace holdfast {

struct StepShape {
  int32_t decode_rows = 0;
  int32_t prefill_rows = 0;
  int32_t prompt_ends = 0;
  int64_t decode_places = 0;
  int64_t prefill_places = 0;
  int64_t longest_decode = 0;  // places
  bool operator==(const StepShape&) const = default;
};

// O(sequences of the plan). A part of one row that draws a token is a decode, whatever it is of.
StepShape ShapeOf(const StepPlan& plan);

struct RowsCost {
  int32_t rows = 0;
  double seconds = 0;
  bool operator==(const RowsCost&) const = default;
};

struct StepCost {  // seconds, >= 0
  double step = 0, decode_row = 0, prefill_row = 0, prompt_end = 0, decode_place = 0,
         prefill_place = 0, longest_place = 0;
  std::vector<RowsCost>
      batch{};  // by rows, rising; below the first as it, above the last on a line
  double SecondsOf(const StepShape& shape) const;
  bool operator==(const StepCost&) const = default;
};

// How fast KV moves, each way on its own: bytes per second, and what each block takes besides.
struct TierCost {
  double restore_bytes_per_second = 0;
  double store_bytes_per_second = 0;
  double block_seconds = 0;
  bool operator==(const TierCost&) const = default;
};

// What a profile holds for.
struct ProfileBinding {
  std::string model_digest;  // hexadecimal
  KvLayout kv_layout;
  std::string device;  // as its maker names it, and the instruction set
  int32_t threads = 0;
  bool operator==(const ProfileBinding&) const = default;
};

// Of the measured steps, |predicted - measured| / measured.
struct FitQuality {
  int32_t steps = 0;
  double mean_error = 0, p95_error = 0, max_error = 0;
  bool operator==(const FitQuality&) const = default;
};

inline constexpr int64_t kPauseNanos = 50'000'000;

struct CostProfile {
  ProfileBinding binding;
  // Sizes of the engine that was measured; a simulation may take others.
  int32_t vocab_size = 0, context_tokens = 0;
  StepCost step;
  double between_steps_seconds = 0;  // deciding, and passing plan and result on
  // Serving a token, the client on the same machine included: its processor time over the engine's
  // threads, which stand still for it where they have all cores.
  double token_seconds = 0;
  // What the first step after a pause of kPauseNanos or more takes besides: weights and KV have
  // left the caches, threads and processor sleep.
  double after_pause_seconds = 0;
  TierCost host, disk;
  FitQuality fit;
};

struct MeasuredStep {
  StepShape shape;
  double seconds = 0;  // > 0
};

// The coefficients, none below zero, with the least sum of squared relative errors: a step of 5 ms
// counts as much as one of 500. batch() is given at the counts of rows that were measured, each a
// quarter above the one before at least. kInvalidArgument: no steps, or one that took no time.
struct StepFit {
  StepCost cost;
  FitQuality quality;
};
absl::StatusOr<StepFit> FitStepCost(std::span<const MeasuredStep> steps);

// As the JSON file has it, and back. kInvalidArgument: the message names the field.
std::string FormatCostProfile(const CostProfile& profile);
absl::StatusOr<CostProfile> ParseCostProfile(std::string_view json);

// kFailedPrecondition: the profile was taken of something else; the message says of what.
absl::Status CheckBinding(const CostProfile& profile, const ProfileBinding& wanted);

// Of the default model on two cores, roughly; for simulations that name no other.
const CostProfile& DefaultCostProfile();

}  // namespace holdfast
