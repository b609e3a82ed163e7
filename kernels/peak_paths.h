// One table of peak kernels per instruction path, each from its own source file, under the rules of
// kernel_paths.h.
#pragma once

#include "kernels/peak_kernels.h"

namespace holdfast {

PeakKernels ScalarPeaks();
PeakKernels Avx2Peaks();        // what the kernels of the path need
PeakKernels Avx512VnniPeaks();  // likewise; without bf16
PeakKernel Avx512Bf16Peaks();   // AVX-512 F and BF16
PeakKernel Avx512AmxPeaks();    // tiles and their bf16

}  // namespace holdfast
