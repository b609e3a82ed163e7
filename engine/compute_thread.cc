#include "engine/compute_thread.h"

#include <sched.h>

namespace holdfast {

std::vector<int32_t> UsableProcessors() {
  std::vector<int32_t> processors;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return {0};
  for (int32_t i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(static_cast<size_t>(i), &set)) processors.push_back(i);
  }
  return processors;
}

void PinTo(int32_t processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(processor), &set);
  sched_setaffinity(0, sizeof set, &set);
}

}  // namespace holdfast
