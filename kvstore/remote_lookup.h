// What the store asks the remote tier, and what comes back: as moves (move.h), the one is decided
// on the scheduler's thread, the other found out elsewhere (remote_mover.h).
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "config/ids.h"
#include "kvstore/block_identity.h"

namespace holdfast {

// Asks how many blocks after `parent` the remote tier has; each digest is computed from the one
// before, which is why it is not done on the scheduler's thread.
struct RemoteLookup {
  LookupId id{};
  BlockDigest parent{};
  std::vector<TokenId> tokens;  // of whole blocks
};

struct RemoteFound {
  LookupId id{};
  std::vector<BlockDigest> digests;  // of the leading ones that are there
  absl::Status status;
};

}  // namespace holdfast
