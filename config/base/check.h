// CHECK: a broken promise of our own code. Prints what and where, and stops the process; in release
// builds too. DCHECK is for what is too dear there. Never reachable from request bytes.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace holdfast {
[[noreturn]] inline void CheckFailed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "CHECK failed: %s at %s:%d\n", what, file, line);
  std::abort();
}
}  // namespace holdfast

#define CHECK(condition)                        \
  (__builtin_expect(!!(condition), 1) ? (void)0 \
                                      : ::holdfast::CheckFailed(#condition, __FILE__, __LINE__))
#ifdef NDEBUG
#define DCHECK(condition) ((void)sizeof(!(condition)))
#else
#define DCHECK(condition) CHECK(condition)
#endif
