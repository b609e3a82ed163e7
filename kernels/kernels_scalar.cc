// Plain C++, for any processor, and the oracle of the others.
#include "kernels/gguf_block.h"
#include "kernels/kernel_paths.h"
#include "kernels/packed_layout.h"
#include "kernels/unroll.inl"
//
#include "kernels/lanes_scalar.inl"
//
#include "kernels/kernel_path.inl"

namespace holdfast {

const KernelTable& ScalarKernels() {
  static constexpr KernelTable kTable = MakeKernelTable(Isa::kScalar, "scalar");
  return kTable;
}

}  // namespace holdfast
