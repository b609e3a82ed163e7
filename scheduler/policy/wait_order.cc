#include "scheduler/policy/wait_order.h"

#include <algorithm>
#include <cmath>

namespace holdfast {

double ScoreOf(WaitOrder order, int32_t prompt_tokens, int32_t found_tokens, absl::Time arrived,
               absl::Duration age) {
  switch (order) {
    case WaitOrder::kArrival:
      return 0;
    case WaitOrder::kHitRate:
      return -static_cast<double>(found_tokens) / prompt_tokens;
    case WaitOrder::kRemainingWork: {
      const double work = std::max(prompt_tokens - found_tokens, 1);
      return std::log(work) + absl::FDivDuration(arrived - absl::UnixEpoch(), age);
    }
  }
  return 0;
}

}  // namespace holdfast
