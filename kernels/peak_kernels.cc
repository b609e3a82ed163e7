#include "kernels/peak_kernels.h"

#include "kernels/peak_paths.h"

namespace holdfast {

PeakKernels PeakKernelsOf(Isa isa) {
#ifdef HOLDFAST_X86
  if (isa == Isa::kAvx512Amx) {
    PeakKernels peaks = Avx512VnniPeaks();
    peaks.isa = isa;
    peaks.bf16 = Avx512AmxPeaks();
    return peaks;
  }
  if (isa == Isa::kAvx512Bf16) {
    PeakKernels peaks = Avx512VnniPeaks();
    peaks.isa = isa;
    peaks.bf16 = Avx512Bf16Peaks();
    return peaks;
  }
  if (isa == Isa::kAvx512Vnni) return Avx512VnniPeaks();
  if (isa == Isa::kAvx2) return Avx2Peaks();
#endif
  static_cast<void>(isa);
  return ScalarPeaks();
}

}  // namespace holdfast
