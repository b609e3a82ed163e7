// The random number of one draw as a pure function of (seed, completion index): no state to keep,
// so that preemption, batching and restarts change nothing (promise 1).
//
// Source: Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
// section 3.3; constants and known answers as published with it.
#pragma once

#include <array>
#include <cstdint>

namespace holdfast {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Uniform in [0, 1), 53 bits.
double UniformDraw(uint64_t seed, uint64_t completion_index);

}  // namespace holdfast
