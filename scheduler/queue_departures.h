// How fast requests, or their tokens, leave a queue, and with it when who was refused may find
// room: what Retry-After says. Fed with counts whenever somebody looks; nothing has to be told of
// each departure.
//
// The rate is the departures of the recent past over its time, both fading alike (an exponentially
// weighted mean over time, so that many looks and few say the same). Only time in which somebody
// waited counts: an empty queue says nothing of how fast a full one moves.
//
// Thread: the scheduler's alone.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/time/time.h"

namespace holdfast {

inline constexpr absl::Duration kRetryAfterMin = absl::Seconds(1);
inline constexpr absl::Duration kRetryAfterMax = absl::Seconds(60);

class QueueDepartures final {
 public:
  void Enter(int64_t num_requests) { entered_ += static_cast<uint64_t>(num_requests); }
  // `waiting`: who is in the queue, of those that have entered it. Nobody enters twice. A time
  // before the last one counts as that.
  void Look(int64_t waiting, absl::Time now);

  // Until so many have left, as far as can be told; between the two bounds. Nothing seen yet: the
  // lower. Nobody has left: the upper.
  absl::Duration TimeUntilLeft(int64_t num_requests) const;
  // The same without bounds; nullopt: nobody has left yet, so there is nothing to tell by.
  std::optional<absl::Duration> ExpectedUntilLeft(int64_t num_requests) const;

 private:
  double departures_ = 0;  // faded
  double seconds_ = 0;     // likewise
  uint64_t entered_ = 0;
  uint64_t left_ = 0;  // when last looked at, as the next two
  bool someone_waited_ = false;
  absl::Time looked_at_ = absl::InfinitePast();
};

// The prompts of a tenant that wait, by what they have to compute: how long the last of them will.
// Requests alone would not tell, since one may be a thousand times as long as another; and what is
// found in the cache makes queue and departures seem faster alike.
class PromptQueue final {
 public:
  // `num_plans`: so many steps have been planned until now, here and below.
  void Enter(int32_t tokens, uint64_t num_plans) {
    if (tokens_ == 0) waits_since_plan_ = num_plans;
    departures_.Enter(tokens);
    tokens_ += tokens;
  }
  void Leave(int32_t tokens) { tokens_ -= tokens; }
  void Look(absl::Time now) { departures_.Look(tokens_, now); }

  // Whether a step has been planned that left someone waiting. Those that came after it may all
  // run in the next one, however slowly others left once.
  bool SomeoneWasLeft(uint64_t num_plans) const {
    return tokens_ > 0 && num_plans > waits_since_plan_;
  }
  // Until all that wait now have left; zero while that cannot be told.
  absl::Duration ExpectedWait() const {
    return departures_.ExpectedUntilLeft(tokens_).value_or(absl::ZeroDuration());
  }

 private:
  QueueDepartures departures_;
  int64_t tokens_ = 0;
  uint64_t waits_since_plan_ = 0;
};

}  // namespace holdfast
