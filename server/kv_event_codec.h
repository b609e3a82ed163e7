// KV events as vLLM 0.26 sends them, so that its readers read ours: MessagePack of
//
//   [ts, [event, event, ...], data_parallel_rank]
//
// where an event is a map that names its `type`. Block hashes are unsigned integers of 64 bits, to
// which vLLM, too, cuts its own by default.
//
// Source: vLLM's vllm/distributed/kv_events.py (msgspec structs), as of v0.26; written from its
// wire form.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/time/time.h"
#include "kvstore/kv_event_ring.h"

namespace holdfast {

// Runs of events become one: blocks that follow each other and were stored on the same tier, and
// blocks removed from the same.
std::vector<uint8_t> EncodeKvEvents(std::span<const KvEvent> events, absl::Time now);

}  // namespace holdfast
