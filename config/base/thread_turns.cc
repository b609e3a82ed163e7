#include "config/base/thread_turns.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace holdfast {
namespace {

// sched_setattr(2); the C library of Debian 12 has neither the call nor the struct.
struct SchedulingAttributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime_ns;  // of an ordinary thread: its turn
  uint64_t deadline_ns, period_ns;
};

// The most and the least that the kernel takes. In the last part of a long turn, as long as a turn
// of who wakes, it has to wait all the same: the longer the one and the shorter the other, the
// rarer.
constexpr uint64_t kLongNs = 100'000'000;
constexpr uint64_t kShortNs = 100'000;

void TakeTurns(uint64_t turn_ns) {
  SchedulingAttributes attributes{.size = sizeof attributes};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  if (attributes.policy != SCHED_OTHER) return;  // whoever started us chose another
  attributes.runtime_ns = turn_ns;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace

void TakeLongTurns() { TakeTurns(kLongNs); }
void TakeShortTurns() { TakeTurns(kShortNs); }

}  // namespace holdfast
