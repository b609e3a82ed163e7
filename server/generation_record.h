// What is known of one generation when it is over: ids, sizes and times for the log and for traces,
// nothing of what was asked or answered.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "config/ids.h"
#include "scheduler/events.h"
#include "server/generation_metrics.h"
#include "server/trace_context.h"

namespace holdfast {

struct GenerationRecord {
  TenantIndex tenant{};
  std::string id;                     // as its client knows it
  std::optional<TraceContext> trace;  // what it is a part of; absent: nobody traces
  Outcome outcome = Outcome::kOk;
  int32_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  // Of the service's clock; InfinitePast: it never came to that.
  absl::Time arrival, first_token = absl::InfinitePast(), end;
  StageTimes times;
};

}  // namespace holdfast
