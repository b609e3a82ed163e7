#include "engine/compute_thread.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

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

constexpr uint64_t kTurnNs = 20'000'000;  // the default is 3 ms or less

}  // namespace

std::vector<int32_t> UsableProcessors() {
  std::vector<int32_t> processors;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return {0};
  for (int32_t i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(static_cast<size_t>(i), &set)) processors.push_back(i);
  }
  return processors;
}

void TakeLongTurns() {
  SchedulingAttributes attributes{.size = sizeof attributes};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  if (attributes.policy != SCHED_OTHER) return;  // whoever started us chose another
  attributes.runtime_ns = kTurnNs;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void PinTo(int32_t processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(processor), &set);
  sched_setaffinity(0, sizeof set, &set);
}

}  // namespace holdfast
