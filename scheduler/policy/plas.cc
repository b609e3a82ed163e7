#include "scheduler/policy/plas.h"

namespace holdfast {

int32_t PlasLevel(absl::Duration service, absl::Duration waited) {
  if (waited >= service * kPlasStarvedRatio) return 0;
  int32_t level = 0;
  for (absl::Duration quantum = kPlasFirstQuantum; service >= quantum && level < kPlasLevels - 1;
       quantum *= 2) {
    ++level;
  }
  return level;
}

}  // namespace holdfast
