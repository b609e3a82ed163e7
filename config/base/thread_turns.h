// How long a thread's turns on a processor are. Between threads that share one, the kernel's turns
// (Linux 6.12 and later, EEVDF) decide who waits for whom, not who gets how much: a thread that
// wakes goes before one whose turn ends later than its own would. All are wishes: where one is
// refused, or the kernel does not know it, tokens are as right and come less evenly.
#pragma once

namespace holdfast {

// The calling thread computes for long: whoever wakes for a short while (a reply to send, a client
// beside us) need not wait for the end of its turn, which without this is up to 3 ms away.
void TakeLongTurns();

// The calling thread, and those that it starts from now on, seldom wait for one with long turns.
void TakeShortTurns();

}  // namespace holdfast
