// How the system treats the threads that compute a step. All are wishes: where one is refused, or
// the kernel does not know it, a step is as right and perhaps less even.
#pragma once

#include <cstdint>
#include <vector>

namespace holdfast {

// Numbers of the processors that the calling thread may use, ascending.
std::vector<int32_t> UsableProcessors();

// The calling thread computes for long: whoever wakes for a short while (a reply to send, a client
// beside us) goes first. Linux from 6.12 on lets a thread ask for long turns, and one with shorter
// turns then need not wait for the end of one: an answer's tokens are delivered when they are
// there, not up to 3 ms later.
void TakeLongTurns();

// The calling thread runs on this processor alone.
void PinTo(int32_t processor);

}  // namespace holdfast
