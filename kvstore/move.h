// What the store asks the mover to do, and what comes back. Jobs name places, never addresses.
//
//   kOffload   device block ──► tier slot      write-behind: the block stays readable meanwhile
//   kRestore   tier slot ──► device block      into a fresh block that nobody reads before it is
//   done kDemote    tier slot ──► lower tier slot
//
// The store keeps both places of a job untouched from handing it out until OnMoveDone, which comes
// exactly once for each, in any order, whatever happened.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "config/ids.h"
#include "kvstore/block_identity.h"
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
  BlockIdentity identity;
};

struct MoveDone {
  MoveId id{};
  absl::Status status;  // as in TierTransfer
};

}  // namespace holdfast
