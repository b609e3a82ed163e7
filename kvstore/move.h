// What the store asks the mover to do, and what comes back. Jobs name places, never addresses.
//
//   kOffload   device block ──► tier slot         write-behind: the block stays readable meanwhile
//   kRestore   tier slot ──► device block         a fresh one that nobody reads before it is done
//   kDemote    tier slot ──► lower tier slot
//   kSend      device block ──► remote tier       a copy for other daemons; nothing leaves here
//
// The store keeps both places of a job untouched from handing it out until OnMoveDone, which comes
// exactly once for each, in any order, whatever happened. Of kSend one with `read` may come before
// it, which gives the block back: a server far away must not keep it.
//
// Restores that share a LayerGate are one sequence's and come back layer by layer: the first layer
// of all of them, then the second. They are handed out together, gate->num_blocks() of them, from
// one tier. Once all their answers are given, and not before, the gate is open for the last layer;
// if any of them is not ok it has failed by then. So a gate that is open throughout vouches for
// what a restore's ok vouches for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "config/ids.h"
#include "kvstore/block_identity.h"
#include "kvstore/layer_gate.h"
#include "kvstore/tier.h"

namespace holdfast {

enum class MoveKind : uint8_t { kOffload, kRestore, kDemote, kSend };
inline constexpr size_t kNumMoveKinds = 4;

struct MoveJob {
  MoveId id{};
  MoveKind kind = MoveKind::kOffload;
  BlockId block{};                        // device side of kOffload, kRestore, kSend
  TierKind tier = TierKind::kHost;        // kOffload: target; kRestore: source; kDemote: source
  TierSlot slot{};                        // in `tier`; nothing where that is kRemote
  TierKind lower_tier = TierKind::kDisk;  // kDemote: target
  TierSlot lower_slot{};
  LayerGate* gate = nullptr;  // of some kRestores; belongs to the store, which outlives the mover
  BlockIdentity identity;
  uint64_t device_losses = 0;  // the mover's own note: how many it knew of when the job came
};

struct MoveDone {
  MoveId id{};
  absl::Status status;  // as in TierTransfer; of a restore from kRemote kNotFound too
  bool read = false;    // of kSend: the block has been copied out, the outcome is yet to come
};

}  // namespace holdfast
