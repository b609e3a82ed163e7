// Times the peak kernels (kernels/peak_kernels.h) on one thread or on several at once.
//
// Each thread works for a while, again and again, beginning with the others; the speed of a sample
// is the sum of the threads' own. The first sample is left out: it wakes the processor.
//
// Thread: the caller's; others are started and joined inside a call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/peak_kernels.h"
#include "server/spread.h"

namespace holdfast {

struct SpeedSamples {
  int32_t count = 7;                               // kept
  absl::Duration length = absl::Milliseconds(25);  // each, at least
};

// Operations per second; a multiply-add is two. kernel.run is not null.
Spread MeasurePeak(const PeakKernel& kernel, int32_t threads, const SpeedSamples& samples);

// Bytes per second of reading a working set that is shared out: each thread reads its own part, a
// `threads`-th of it, over and over; huge pages where the system gives them.
// kResourceExhausted: no memory for it.
absl::StatusOr<Spread> MeasureRead(const PeakKernels& peaks, size_t working_set_bytes,
                                   int32_t threads, const SpeedSamples& samples);

}  // namespace holdfast
