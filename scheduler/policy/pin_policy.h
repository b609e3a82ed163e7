// How long to keep the KV of a turn that has ended, while its program waits for a tool: the seam
// between the program table and the published rules (fixed_ttl.h, infercept.h, continuum.h).
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "scheduler/policy/ttl_pin.h"

namespace holdfast {

// A program between two turns.
struct Pause {
  std::string tool;  // empty: none is known to have been called
  int32_t context_tokens = 0;
  int64_t other_tokens = 0;  // contexts of the others, who would wait while it is computed again
  absl::Duration reload;     // to have the context again; zero: not known
};

class PinPolicy {
 public:
  virtual ~PinPolicy() = default;

  // `known`: what the tenant's tools and queues have been like. A ttl of zero: no pin.
  virtual TtlDecision Decide(const Pause& pause, const TtlEstimator& known) const = 0;
};

}  // namespace holdfast
