// In which order a tenant's requests that have not run yet are let in, as far as it depends on what
// they find in the cache.
//
//   kArrival         first come, first served; of agent programs: the earlier program
//   kHitRate         the greater share of the prompt found first, as published
//   kRemainingWork   the fewer tokens left to compute first, ageing: work * exp(-wait / age)
//
// Hit rate alone puts a prompt of 8,000 tokens, 90 % found, before one of 64 of which nothing is
// found; remaining work is shortest job first, which has the least mean wait. With ageing the order
// of two requests never changes while they wait: log(work) + arrival / age says the same as
// work * exp(-wait / age) at any time, so each is ranked once.
//
// Source: KVShare (arXiv 2503.16525) for the hit rate; work and ageing are ours.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "config/scheduler_policy.h"

namespace holdfast {

// Lower goes first. `found_tokens` of `prompt_tokens` > 0 need no prefill; `arrived`: the request,
// or the program whose turn it is.
double ScoreOf(WaitOrder order, int32_t prompt_tokens, int32_t found_tokens, absl::Time arrived,
               absl::Duration age);

}  // namespace holdfast
