// The ids that rooms hand to each other. Each is its own type, so that a slot cannot be passed
// where a block is wanted; the numbers are meaningful only to the room that gave them out.
#pragma once

#include <cstdint>
#include <type_traits>

namespace holdfast {

// A token of the served model's vocabulary, 0 <= id < vocab size. Data rather than a name, hence
// plain: prompts are spans of it and cross the C interfaces of text and kernels as they are.
using TokenId = int32_t;

// One KV block of the device tier; dense, from 0. Given out by kvstore, an offset to the engine.
enum class BlockId : int32_t {};

// A block's content as the prefix index knows it, wherever it lies; dense, from 0, reused after it
// is forgotten.
enum class NodeId : uint32_t {};

// A place for one KV block in a lower tier; dense, from 0. Lent by the tier to the store.
enum class TierSlot : int32_t {};

// One move of a block between tiers; given out by the store, never reused in a process.
enum class MoveId : uint64_t {};

// One question to the remote tier; given out by the scheduler, never reused in a process.
enum class LookupId : uint64_t {};

// One pin of a sequence's blocks; given out by the pin table, never reused in a process.
enum class PinId : uint64_t {};

// A row of per-sequence state inside the engine (sampler counts); dense, from 0, below
// EngineInfo::num_sequence_slots. Lent by the scheduler to running sequences.
enum class SequenceSlot : int32_t {};

// One request on its way through the daemon; given out by the server, never reused in a process.
enum class RequestId : uint64_t {};

// A tenant's place in the list of all that the process has been told of; its name's for good.
enum class TenantIndex : int32_t {};

// The number inside an id, for indexing and printing.
template <typename Id>
constexpr auto Number(Id id) {
  return static_cast<std::underlying_type_t<Id>>(id);
}

}  // namespace holdfast
