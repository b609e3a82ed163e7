// The tiles of Intel's matrix unit (AMX) as our files use them: eight of 16 rows of 64 bytes.
// Everything is local to the including file.
#include <immintrin.h>

namespace holdfast {
namespace {

// The argument of ldtilecfg. Constant, and not made where it is used: g++ 12 takes the intrinsic
// for one that reads 8 bytes.
struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);
alignas(64) constexpr TileConfig kTileConfig;

}  // namespace
}  // namespace holdfast
