// Compiled with -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c; reached only
// on processors that have them.
#include "kernels/gguf_block.h"
#include "kernels/kernel_paths.h"
#include "kernels/packed_layout.h"
#include "kernels/unroll.inl"
//
#include "kernels/lanes_avx512.inl"
//
#include "kernels/kernel_path.inl"

namespace holdfast {

const KernelTable& Avx512VnniKernels() {
  static constexpr KernelTable kTable = MakeKernelTable(Isa::kAvx512Vnni, "avx512-vnni");
  return kTable;
}

}  // namespace holdfast
