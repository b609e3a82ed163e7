// Least attained service first, for whole programs: who has been served little is likely to be done
// soon. Service counts in levels, each twice as long as the one before, so that programs of about
// the same service do not overtake each other with every turn.
//
//   service, s   < 1   < 2   < 4   ...   < 16,384   more
//   level          0     1     2                14     15
//
// The levels reach beyond what agents take in all, else long ones would share the last and the
// policy would order them by arrival alone.
//
// Who has waited long for what it was given is put to level 0, or the long ones would starve.
//
// Source: program-level attained service, Autellix (arXiv 2502.13965): levels, quanta and the
// promotion by waiting / service; their values here are ours. A baseline.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace holdfast {

inline constexpr int32_t kPlasLevels = 16;
inline constexpr absl::Duration kPlasFirstQuantum = absl::Seconds(1);
inline constexpr double kPlasStarvedRatio = 8;  // waited / service

// Of a program that has been served and has waited so long in all; in [0, kPlasLevels).
int32_t PlasLevel(absl::Duration service, absl::Duration waited);

}  // namespace holdfast
