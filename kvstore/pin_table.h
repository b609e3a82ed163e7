// Promises not to evict a finished turn's blocks before a deadline, in case its session goes on.
// The table keeps who was promised what and counts it against the bounds; the references behind a
// pin are the store's (kv_store.h).
//
//   TryAdd ──► pinned ──► final | expired | forced | replaced | displaced | declined
//
// One pin for each (tenant, session): a new one replaces the old. Blocks shared by several pins (a
// system prompt) count once, in the whole and for each tenant. A pin that does not fit displaces
// those of its own tenant that matter no more than itself: of higher `priority` number first (lower
// is more important, as on the wire), then of the later program, then of the earlier deadline;
// never another tenant's. A provisional one displaces none.
//
// Thread: the scheduler's alone.    Bound: blocks_max blocks and as many pins. Calls are
// O(blocks of the pins touched + log pins).
// Source: KV time-to-live of agent programs, Continuum (arXiv 2511.02230); bounds and order of
// release are ours.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "config/ids.h"
#include "kvstore/reuse_scope.h"

namespace holdfast {

// What a pin waits for.
enum class PinState : uint8_t {
  kAsked,        // its session's next turn, for as long as its client wanted
  kPaused,       // likewise, for as long as is worth it
  kProvisional,  // to hear how long that is
  kWanted,       // the next turn has come, and has not computed yet
};
inline constexpr size_t kNumPinStates = 4;

struct Pin {
  PinId id{};  // given by the table
  TenantIndex tenant{};
  std::string session;
  int32_t priority = 0;
  uint64_t program = 0;
  PinState state = PinState::kAsked;
  absl::Time created, deadline;
  ReuseScope scope{};
  std::vector<BlockId> blocks;          // published ones, then one partial if it has tokens
  std::optional<NodeId> last_node;      // of the last published block
  std::vector<TokenId> partial_tokens;  // of the last block; fewer than kBlockTokens
};

enum class PinEnd : uint8_t {
  kFinal,      // its session said that it ends, or went on
  kExpired,    // the deadline passed
  kForced,     // room was needed, or an operator wanted it
  kReplaced,   // by a later pin of the same session
  kDisplaced,  // by another pin of the same tenant
  kDeclined,   // it was found not worth its room
};
inline constexpr size_t kNumPinEnds = 6;

class PinTable final {
 public:
  // `tenant_blocks_max`: by TenantIndex; each at most blocks_max.
  PinTable(int32_t blocks_max, const std::vector<int32_t>& tenant_blocks_max);

  // For the tenants that there are, and behind them for new ones. Who has more keeps it, and adds
  // only what takes the place of its own.
  void SetBlocksMax(const std::vector<int32_t>& tenant_blocks_max);

  // Enters `pin`, which has at least one block. What had to go for it is appended to `ended`, for
  // the caller to release. nullopt: it does not fit even so, and nothing has changed.
  std::optional<PinId> TryAdd(Pin&& pin, std::vector<Pin>& ended);

  const Pin* Find(TenantIndex tenant, const std::string& session) const;
  // The next to expire, if its deadline is `now` or earlier.
  std::optional<PinId> Expired(absl::Time now) const;
  // The first to go by force, of one tenant (O(pins)) or of all: the least important, then the
  // earliest deadline.
  std::optional<PinId> LeastImportant(std::optional<TenantIndex> tenant = std::nullopt) const;
  Pin Remove(PinId id, PinEnd why);

  void Extend(PinId id, absl::Time deadline);  // to then, if its deadline is earlier
  void SetDeadline(PinId id, absl::Time deadline);
  void SetState(PinId id, PinState state);

  // By deadline.
  void ForEach(const std::function<void(const Pin&)>& visit) const;

  int32_t num_tenants() const { return static_cast<int32_t>(tenants_.size()); }
  int32_t num_pins() const { return static_cast<int32_t>(pins_.size()); }
  int32_t num_pins(TenantIndex tenant) const {
    return static_cast<int32_t>(Of(tenant).sessions.size());
  }
  int32_t num_pins(PinState state) const { return num_in_state_[static_cast<size_t>(state)]; }
  int32_t num_blocks() const { return num_blocks_; }
  int32_t num_blocks(TenantIndex tenant) const { return Of(tenant).num_blocks; }
  uint64_t num_made() const { return next_id_ - 1; }
  uint64_t num_ended(PinEnd why) const { return num_ended_[static_cast<size_t>(why)]; }

  void CheckInvariants() const;

 private:
  struct Tenant {
    int32_t blocks_max = 0;
    int32_t kept_blocks = 0;  // what it had when that was last set
    int32_t num_blocks = 0;
    absl::flat_hash_map<BlockId, int32_t> pins_of;  // how many pins have the block
    std::map<std::string, PinId> sessions;
  };
  // The first to go first.
  using Rank = std::tuple<int64_t, uint64_t, absl::Time, PinId>;
  static Rank RankOf(const Pin& pin) {
    return {-int64_t{pin.priority}, UINT64_MAX - pin.program, pin.deadline, pin.id};
  }

  Tenant& Of(TenantIndex tenant);
  const Tenant& Of(TenantIndex tenant) const;
  void Count(const Pin& pin);
  void Uncount(const Pin& pin);
  bool Fits(const Tenant& tenant) const;
  Pin Extract(PinId id, PinEnd why);  // counted no more already

  const int32_t blocks_max_;
  int32_t num_blocks_ = 0;
  uint64_t next_id_ = 1;
  std::vector<Tenant> tenants_;
  absl::flat_hash_map<BlockId, int32_t> pins_of_;
  std::map<PinId, Pin> pins_;
  std::set<std::pair<absl::Time, PinId>> by_deadline_;
  std::set<Rank> by_rank_;
  std::array<int32_t, kNumPinStates> num_in_state_{};
  std::array<uint64_t, kNumPinEnds> num_ended_{};
};

}  // namespace holdfast
