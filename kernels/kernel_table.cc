#include "kernels/kernel_table.h"

#ifdef HOLDFAST_X86
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "kernels/kernel_paths.h"

namespace holdfast {

size_t AttentionWorkspaceFloats(int32_t num_rows, int32_t num_heads, int32_t head_dim) {
  const auto padded = [](size_t floats) { return (floats + 15) / 16 * 16; };
  constexpr size_t kScoreStride = 256 + 16, kChunkKeys = 64;
  const auto dim = static_cast<size_t>(head_dim);
  const size_t padded_dim = padded(dim);
  const size_t queries = static_cast<size_t>(num_rows) * static_cast<size_t>(num_heads);
  // In the order of Carve in attention.inl.
  return padded(queries * dim) + queries * kScoreStride + 2 * queries * padded_dim +
         3 * padded(queries) + kChunkKeys * padded_dim;
}

#ifdef HOLDFAST_X86
// clang 14's __builtin_cpu_supports does not know the name f16c. That the system saves the
// registers is asked with avx2.
static bool HasF16c() {
  unsigned int eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

#ifdef HOLDFAST_X86
static bool HasAmxBf16() {
  constexpr unsigned int kBf16 = 1u << 22, kTile = 1u << 24;
  unsigned int eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kBf16) != 0 &&
         (edx & kTile) != 0;
}

// The system keeps the 8 KB of tiles only for processes that asked for it; the first use of a tile
// kills others.
static bool MayUseTiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}
#endif

bool IsaSupported(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return true;
#ifdef HOLDFAST_X86
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
    case Isa::kAvx512Vnni:
      return IsaSupported(Isa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    case Isa::kAvx512Bf16:
      return IsaSupported(Isa::kAvx512Vnni) && __builtin_cpu_supports("avx512bf16");
    case Isa::kAvx512Amx:
      return IsaSupported(Isa::kAvx512Vnni) && HasAmxBf16() && MayUseTiles();
#else
    default:
      return false;
#endif
  }
  return false;
}

// On AMD's (measured: Zen 5) a vdpbf16ps takes as long as a vfmadd231ps, on Sapphire Rapids four
// times as long, so that f32 is faster there: docs/performance.md.
static bool IsBf16Fast() {
#ifdef HOLDFAST_X86
  return __builtin_cpu_is("amd") != 0;
#else
  return false;
#endif
}

Isa BestIsa() {
  if (IsaSupported(Isa::kAvx512Amx)) return Isa::kAvx512Amx;
  if (IsaSupported(Isa::kAvx512Bf16) && IsBf16Fast()) return Isa::kAvx512Bf16;
  if (IsaSupported(Isa::kAvx512Vnni)) return Isa::kAvx512Vnni;
  return IsaSupported(Isa::kAvx2) ? Isa::kAvx2 : Isa::kScalar;
}

const KernelTable& KernelsOf(Isa isa) {
#ifdef HOLDFAST_X86
  if (isa == Isa::kAvx512Amx) {
    static const KernelTable kernels = Avx512AmxKernels();
    return kernels;
  }
  if (isa == Isa::kAvx512Bf16) {
    static const KernelTable kernels = Avx512Bf16Kernels();
    return kernels;
  }
  if (isa == Isa::kAvx512Vnni) return Avx512VnniKernels();
  if (isa == Isa::kAvx2) return Avx2Kernels();
#endif
  static_cast<void>(isa);
  return ScalarKernels();
}

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512Vnni:
      return "avx512-vnni";
    case Isa::kAvx512Bf16:
      return "avx512-bf16";
    case Isa::kAvx512Amx:
      return "avx512-amx";
  }
  return "?";
}

}  // namespace holdfast
