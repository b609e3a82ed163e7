// The bounds of streams that outlive their connection (http_streams.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace holdfast {

struct KeptStreamOptions {
  absl::Duration time_max = absl::Seconds(60);  // unread; zero: none is kept
  // Of the events in memory. What of a stream has been sent is forgotten first; where that is not
  // enough it is cancelled, as without being kept it would be, too.
  size_t stream_bytes_max = size_t{4} << 20;
  size_t tenant_bytes_max = size_t{32} << 20;
  int32_t tenant_streams_max = 64;
};

}  // namespace holdfast
