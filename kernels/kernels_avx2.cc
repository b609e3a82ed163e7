// Compiled with -mavx2 -mfma -mf16c; reached only on processors that have them.
#include "kernels/gguf_block.h"
#include "kernels/kernel_paths.h"
#include "kernels/packed_layout.h"
#include "kernels/unroll.inl"
//
#include "kernels/lanes_avx2.inl"
//
#include "kernels/kernel_path.inl"

namespace holdfast {

const KernelTable& Avx2Kernels() {
  static constexpr KernelTable kTable = MakeKernelTable(Isa::kAvx2, "avx2");
  return kTable;
}

}  // namespace holdfast
