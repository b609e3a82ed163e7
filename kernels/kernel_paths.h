// One table per instruction path, each from its own source file. A file of an instruction set
// includes only what has internal linkage (half.h, gguf_block.h, packed_layout.h, *.inl) and no
// template or inline function of the standard library: the linker keeps one copy of such a function
// for the whole program, and must not find it compiled for a processor that we may not be on.
// tests/parity checks this on the object files.
#pragma once

#include "kernels/kernel_table.h"

namespace holdfast {

const KernelTable& ScalarKernels();
const KernelTable& Avx2Kernels();        // needs AVX2, FMA, F16C
const KernelTable& Avx512VnniKernels();  // needs AVX-512 F, BW, DQ, VL, VNNI, and FMA, F16C
// The same but for bf16_matmul.
KernelTable Avx512Bf16Kernels();  // needs AVX-512 BF16, too
KernelTable Avx512AmxKernels();   // needs AMX tiles with bf16, too

}  // namespace holdfast
