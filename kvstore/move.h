// What the store asks the mover to do, and what comes back. Jobs name places, never addresses.
//
//   kOffload   device block ──► tier slot      write-behind: the block stays readable meanwhile
//   kRestore   tier slot ──► device block      into a fresh block that nobody reads before it is
//   done kDemote    tier slot ──► lower tier slot
//
// The store keeps both places of a job untouched from handing it out until OnMoveDone, which comes
// exactly once for each, in any order, whatever happened.
//
// Restores that share a LayerGate are one sequence's and come back layer by layer: the first layer
// of all of them, then the second. They are handed out together, gate->num_blocks() of them, from
// one tier. Once all their answers are given, and not before, the gate is open for the last layer;
// if any of them is not ok it has failed by then. So a gate that is open throughout vouches for
// what a restore's ok vouches for.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "config/ids.h"
#include "kvstore/block_identity.h"
#include "kvstore/layer_gate.h"
#include "kvstore/tier.h"

namespace holdfast {

enum class MoveKind : uint8_t { kOffload, kRestore, kDemote };

struct MoveJob {
  MoveId id{};
  MoveKind kind = MoveKind::kOffload;
  BlockId block{};                        // device side of kOffload, kRestore
  TierKind tier = TierKind::kHost;        // kOffload: target; kRestore: source; kDemote: source
  TierSlot slot{};                        // in `tier`
  TierKind lower_tier = TierKind::kDisk;  // kDemote: target
  TierSlot lower_slot{};
  LayerGate* gate = nullptr;  // of some kRestores; belongs to the store, which outlives the mover
  BlockIdentity identity;
};

struct MoveDone {
  MoveId id{};
  absl::Status status;  // as in TierTransfer
};

}  // namespace holdfast
