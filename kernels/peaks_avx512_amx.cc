// Compiled with -mamx-tile -mamx-bf16; reached only where kernels_avx512_amx.cc is.
#include "kernels/peak_paths.h"
#include "kernels/tiles_amx.inl"

namespace holdfast {
namespace {

constexpr int kSums = 4;

double RunBf16(int32_t rounds) {
  alignas(64) static constexpr struct Ones {
    constexpr Ones() {
      for (uint16_t& value : values) value = 0x3f80;
    }
    uint16_t values[512] = {};
  } kOnes;
  _tile_loadconfig(&kTileConfig);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, kOnes.values, 64);
  _tile_loadd(5, kOnes.values, 64);
  for (int32_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  float lanes[kSums * 256];
  _tile_stored(0, lanes, 64);
  _tile_stored(1, lanes + 256, 64);
  _tile_stored(2, lanes + 512, 64);
  _tile_stored(3, lanes + 768, 64);
  _tile_release();
  double total = 0.0;
  for (const float lane : lanes) total += static_cast<double>(lane);
  return total;
}

}  // namespace

PeakKernel Avx512AmxPeaks() { return {RunBf16, kSums * 16 * 16 * 32, "tdpbf16ps"}; }

}  // namespace holdfast
