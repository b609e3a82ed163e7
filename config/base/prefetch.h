// Asks for memory that a loop over many sequences will touch some rounds later. Thousands of them
// do not fit the caches near the core, and each would otherwise be waited for.
#pragma once

#include <cstddef>

namespace holdfast {

inline constexpr size_t kPrefetchRounds = 6;  // ahead: about what a miss takes

inline void Prefetch(const void* memory, size_t bytes) {
  constexpr size_t kLine = 64;
  const char* const from = static_cast<const char*>(memory);
  for (size_t i = 0; i < bytes; i += kLine) __builtin_prefetch(from + i);
}

inline void PrefetchToWrite(const void* memory) { __builtin_prefetch(memory, 1); }

}  // namespace holdfast
