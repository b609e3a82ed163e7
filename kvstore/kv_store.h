// Where KV blocks are, who refers to them, how they are found again and which go first: pool,
// index, tiers, pins and eviction under one roof. Knows token spans, block ids and opaque scopes; a
// sequence keeps its own block table and cursor.
//
//   TryAcquirePrefix: [found on the device | found lower: arriving | fresh]    all or nothing
//   PollRestore:      pending until what was found lower has arrived, or is cut; meanwhile there
//   may
//                     be a gate behind which computing can begin (layer_gate.h)
//   Publish:          computed blocks become findable, in order
//   Release:          published blocks stay findable until room is needed, others are free at once
//   TryPin:           instead of Release: they stay until a deadline
//   PlanMoves:        copies the next to go to a lower tier, ahead of need
//   OfferToRemote:    copies what a finished sequence published to where other daemons find it
//   TellAnew:         whoever wants to know from outside hears what lies where
//   BeginHandDown:    at the end, copies to disk what would go with the process
//
// Where a content may lie, and how it gets there (each content on any number of tiers):
//
//             Publish                      offload                 demote
//   computed ─────────► device (evictable) ───────► host (slot) ───────────► disk (slot)
//                          ▲   ▲                      │                       │
//                          │   └─────── restore ──────┘                       │
//                          └─────────── restore ──────────────────────────────┘
//
// The remote tier has no places of ours: what lies there is only known when it is asked
// (MakeLookup), which takes time, so the answer comes with the acquisition. What it says is there
// is entered as a node that arrives, and proven like what comes back from any tier.
//
// A block that was chosen to go is `leaving`: it is copied if no copy is below, then waits in the
// departure list, findable, until its place is needed. Whoever finds it keeps it. When room is
// needed faster than the mover copies, victims go without a copy, and are counted.
//
// Children before parents: a place is offered to its eviction policy only while no child lies on
// the same tier that is not on its way out itself (Settle, the one place where this is decided). On
// the device moreover whoever holds a block holds its parents (Publish puts the index's own block
// in the place of a duplicate). A failed restore may leave a child whose parent lies nowhere: it is
// not found, and goes when room is needed.
//
// Nobody computes into a block that somebody else holds: a block that arrives is unpublished and
// may have several waiters, who only wait. If it fails it comes from the next tier that has a copy;
// where none has, each gives it back and gets its own.
//
// Thread: the scheduler's alone; bytes move elsewhere, see move.h.    Bound: the capacities of the
// tiers; moves under way: moves_max and one for each device block that arrives. Step path: nothing
// is allocated once warm but growth of the callers' tables, new scopes and the policies' own.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "config/ids.h"
#include "kvstore/block_key.h"
#include "kvstore/block_pool.h"
#include "kvstore/departure_list.h"
#include "kvstore/kv_layout.h"
#include "kvstore/kv_store_options.h"
#include "kvstore/layer_gate.h"
#include "kvstore/move.h"
#include "kvstore/pin_table.h"
#include "kvstore/prefix_index.h"
#include "kvstore/remote_lookup.h"
#include "kvstore/reuse_scope.h"
#include "kvstore/tier_ledger.h"

namespace holdfast {

// Blocks that cover this many token places.
constexpr int32_t BlocksFor(int64_t num_tokens) {
  return static_cast<int32_t>((num_tokens + kBlockTokens - 1) / kBlockTokens);
}

// How far a sequence's leading blocks are published. Kept by the sequence beside its table, read
// and written by the store alone.
struct PublishedPrefix {
  int32_t num_blocks = 0;      // published, or found and arriving
  BlockKey key;                // of the last of them; at 0 blocks, the scope's
  std::optional<NodeId> node;  // of the last of them
  TenantIndex tenant{};        // whose blocks are taken
  bool started = false;
  bool cut = false;  // the next block's key was taken by other content: nothing more is published
  bool restoring = false;             // PollRestore has not said otherwise yet
  int32_t arrived_blocks = 0;         // known to lie on the device
  int32_t first_restored = 0;         // those before it lay there when they were found
  std::optional<BlockKey> computing;  // registered as being computed by this sequence
  LayerGate* gate = nullptr;          // what it restores comes back behind it
};

// Whether a sequence may find others' blocks and be found by others.
enum class PrefixReuse : uint8_t {
  kMatchAndPublish,
  kPublish,  // all is computed anew (logprobs of the prompt are wanted), and may be found later
  kNone,
};

// Blocks of a sequence that the remote tier has said to have.
struct RemotePrefix {
  int32_t first_block = 0;
  std::vector<BlockDigest> digests;  // of that block and those after it
};

// A look-up is worth its time from this many missing blocks on: 64 tokens take longer to compute
// than a call to a server nearby.
inline constexpr int32_t kLookupBlocksMin = 4;
inline constexpr int32_t kLookupBlocksMax = 1024;  // of one look-up; the rest is computed
inline constexpr size_t kSendQueueMax = 4096;      // blocks waiting to be sent; beyond: skipped

struct PrefixRequest {
  const ReuseScope& scope;
  std::span<const TokenId> tokens;
  PrefixReuse reuse = PrefixReuse::kMatchAndPublish;
  TenantIndex tenant{};
  int32_t num_blocks = 0;                // to hold in the end
  int32_t spare_blocks = 0;              // must stay available besides
  const RemotePrefix* remote = nullptr;  // for TryAcquirePrefix: what a look-up has found
};

struct PrefixGrant {
  int32_t cached_tokens = 0;     // found, arriving ones included; a multiple of kBlockTokens
  int32_t restoring_blocks = 0;  // above 0: nothing may be computed before PollRestore says kReady
  bool operator==(const PrefixGrant&) const = default;
};

struct RestorePoll {
  enum class State : uint8_t {
    kPending,
    kReady,   // the first cached_tokens are there, the rest of the table is fresh
    kNoRoom,  // a restore failed and there are no blocks to compute it in: all was given back
  };
  State state = State::kPending;
  int32_t cached_tokens = 0;  // of kReady; fewer than granted if a restore failed
  // Of kPending: all that is granted comes back behind this gate, which has not failed so far. Rows
  // after it may be computed by a step that waits at the gate. What it computes counts only if the
  // gate did not fail and the next poll, after it, is kReady with all that was granted.
  const LayerGate* gate = nullptr;
};

// The last, not yet full block of a line of tokens, held by somebody.
struct PartialBlock {
  const ReuseScope& scope;
  std::optional<NodeId> parent;  // of the published block before it; nullopt: it is the first
  BlockId block{};
  std::span<const TokenId> tokens;  // computed in it
};

struct PinRequest {
  TenantIndex tenant{};
  std::string session;
  int32_t priority = 0;  // lower is more important
  uint64_t program = 0;  // of equal priority, the greater goes first by force
  absl::Time deadline;
  PinState state = PinState::kAsked;
};

struct MoveCounters {
  uint64_t started = 0, done = 0, failed = 0;
  uint64_t bytes = 0;  // of those done
};

struct KvStoreCounters {  // since construction
  uint64_t blocks_hit = 0;
  uint64_t blocks_published = 0;
  uint64_t blocks_duplicate = 0;  // computed twice at the same time; the second was given back
  uint64_t blocks_evicted = 0;    // from the device
  uint64_t key_collisions = 0;
  uint64_t index_full = 0;            // blocks not published because no more can be known
  uint64_t dropped_without_copy = 0;  // left their last tier, though there are lower ones
  uint64_t corrupt_blocks = 0;        // came back from a tier unproven
  uint64_t lost_blocks = 0;           // could not be fetched from a tier
  uint64_t restores_cut = 0;          // sequences that compute what a failed restore left
  uint64_t restores_by_layers = 0;    // sequences that got a gate
  uint64_t ghosts_met = 0;            // prefixes that ended at known content that lies nowhere
  uint64_t blocks_adopted = 0;        // found on disk at start
  uint64_t blocks_refused = 0;        // and not proven, or not wanted
  uint64_t sends_skipped = 0;         // blocks not sent: too much waits, or the server is away
  uint64_t remote_fetched = 0, remote_absent = 0;   // asked of the remote tier; absent: gone since
  uint64_t remote_unproven = 0, remote_failed = 0;  // the look-up; the former also corrupt_blocks
  std::array<MoveCounters, kNumMoveKinds> moves{};
  std::array<uint64_t, kNumPlaceTiers> tier_evicted{};  // by tier; device as blocks_evicted
};

// What a histogram wants to know; between two calls of TakeObservations at most kMax of each.
struct KvObservations {
  static constexpr size_t kMax = 1024;
  std::vector<double> residency_seconds;  // on the device, of blocks that left it
  std::vector<double> reuse_gap_seconds;  // from the last use of unreferenced content to the next,
                                          // wherever it lay
};

class KvStore final {
 public:
  explicit KvStore(KvStoreOptions options);

  // Their shares from now on, by TenantIndex, for those that there are, and behind them for new
  // ones. Allocates. Who holds or pins more than it now may keeps it.
  void SetTenants(std::vector<TenantShares> tenants);
  const std::vector<TenantShares>& tenants() const { return options_.tenants; }

  // --- A sequence's blocks. `now` never matters for what is found, only for what goes first.

  // For a sequence that begins to compute `request.tokens`: fills the empty `table` with
  // request.num_blocks blocks, of which the leading ones hold the longest known prefix of the
  // tokens, or are about to. At least the last token is left to compute. nullopt: there is not room
  // enough, also counting the spare blocks, and nothing that matters has changed. Evicts what is
  // needed.
  std::optional<PrefixGrant> TryAcquirePrefix(const PrefixRequest& request, absl::Time now,
                                              std::vector<BlockId>& table, PublishedPrefix& prefix);

  // For a sequence whose grant had blocks to restore, after OnMoveDone, until it says kReady or
  // kNoRoom. `request` as in TryAcquirePrefix. Amortised O(1), but for a cut: O(blocks cut).
  RestorePoll PollRestore(const PrefixRequest& request, absl::Time now, std::vector<BlockId>& table,
                          PublishedPrefix& prefix);

  // PollRestore would say kReady with all that was granted. O(blocks).
  bool HasAllArrived(const std::vector<BlockId>& table, const PublishedPrefix& prefix) const;

  // Appends `count` fresh blocks, evicting where needed. False: too few are available, and `table`
  // is unchanged.
  [[nodiscard]] bool TryAcquire(int32_t count, TenantIndex tenant, absl::Time now,
                                std::vector<BlockId>& table);

  // The first `num_computed` of `tokens` have their KV in `table`, all of it written by committed
  // steps. Makes its full blocks findable that are not yet. Where another sequence has published
  // the same meanwhile, that block takes the place in `table` and ours is given back: the content
  // is the same, and steps already planned run before any later step may write to ours. True: a
  // block of `table` has been replaced so.
  bool Publish(const ReuseScope& scope, std::span<const TokenId> tokens, int32_t num_computed,
               PrefixReuse reuse, absl::Time now, std::vector<BlockId>& table,
               PublishedPrefix& prefix);

  // Brings near the memory that a Publish with these arguments will touch first. Changes nothing.
  void PrefetchPublish(std::span<const TokenId> tokens, int32_t num_computed, PrefixReuse reuse,
                       const std::vector<BlockId>& table, const PublishedPrefix& prefix) const;

  // Gives back a whole table, tail first, and empties it and its cursor. Also in mid-restore: what
  // arrives then stays findable.
  void Release(absl::Time now, std::vector<BlockId>& table, PublishedPrefix& prefix);

  // The first block that a new sequence with these tokens would have to compute is being computed
  // by one that runs: better wait for it. O(blocks found); ask for those that would run next.
  bool IsBeingComputed(const ReuseScope& scope, std::span<const TokenId> tokens) const;

  // For a sequence with these tokens that waits: what it would find on the device is not evicted
  // until LetGo. Fills the empty `kept`, the root first. O(blocks found).
  void KeepFound(const ReuseScope& scope, std::span<const TokenId> tokens, absl::Time now,
                 std::vector<BlockId>& kept);
  void LetGo(absl::Time now, std::vector<BlockId>& kept);

  // Tokens that a new sequence with these would find, wherever they lie. O(blocks found).
  int32_t FindableTokens(const ReuseScope& scope, std::span<const TokenId> tokens) const;

  // Copy on write: after TryAcquirePrefix granted `table` (with nothing to restore), continues the
  // found prefix by what `partial` shares with it. Raises grant.cached_tokens, still leaving the
  // last token to compute. nullopt: they have nothing in common; nothing has changed.
  std::optional<BlockCopy> CopyPartial(const PartialBlock& partial, const PrefixRequest& request,
                                       const std::vector<BlockId>& table,
                                       const PublishedPrefix& prefix, PrefixGrant& grant);

  // --- Pins. See pin_table.h.

  // Takes a finished sequence's references over: published blocks, and the partial block after them
  // with its tokens; the rest is given back. `tokens` are the computed ones. False: it does not fit
  // the bounds, and nothing has changed: Release.
  [[nodiscard]] bool TryPin(const PinRequest& request, const ReuseScope& scope,
                            std::span<const TokenId> tokens, absl::Time now,
                            std::vector<BlockId>& table, PublishedPrefix& prefix);
  // Its partial block, for CopyPartial. nullopt: no such pin, or it has none.
  std::optional<PartialBlock> PinnedPartial(TenantIndex tenant, const std::string& session) const;
  bool ReleasePin(TenantIndex tenant, const std::string& session, PinEnd why, absl::Time now);
  // Its next turn has come: its pin, if it has one in this scope, stays until then at least. False:
  // there is none.
  bool ExtendPin(TenantIndex tenant, const std::string& session, const ReuseScope& scope,
                 absl::Time deadline);
  // How long its pin is worth keeping is known by now; none, or one that the client asked for, or
  // whose turn has come, is left as it is.
  void DecidePin(TenantIndex tenant, const std::string& session, absl::Time deadline,
                 absl::Time now);
  int32_t ExpirePins(absl::Time now);  // returns how many
  // For a sequence that cannot grow otherwise; false: there is none, of this tenant or of any.
  bool ForceLeastPin(absl::Time now, std::optional<TenantIndex> tenant = std::nullopt);
  const PinTable& pins() const { return pins_; }

  // --- Moves.

  // Starts what is to be copied down ahead of need, and to the remote tier. Call once a step.
  void PlanMoves(absl::Time now);
  // Appends the jobs started since the last call, for the mover, who answers each exactly once.
  void TakeMoves(std::vector<MoveJob>& jobs);
  void OnMoveDone(const MoveDone& done, absl::Time now);
  // That keep a place; a send only until its block has been read.
  int32_t num_moves() const { return static_cast<int32_t>(moves_.size()) - num_read_; }

  // At start, for what the disk tier found, parents before children. False: it is not proven to
  // continue what is known, or is known already, or its owner is not, or has too much: the caller
  // drops the slot. FinishAdoption gives the memory for it back.
  bool AdoptDiskBlock(TierSlot slot, const BlockIdentity& identity, absl::Time now);
  void FinishAdoption();

  // --- The remote tier (kv_store_remote.cc).

  // The published blocks of a sequence that is about to give them back are sent by and by, while
  // they are on the device, unless they are taken to lie there.
  void OfferToRemote(const std::vector<BlockId>& table, const PublishedPrefix& prefix,
                     absl::Time now);
  bool remote_usable() const { return options_.remote_usable && options_.remote_usable(); }
  // What to ask for the blocks that `tokens` lack here, and the number of the first. nullopt: too
  // few to be worth it. O(blocks found).
  struct Lookup {
    RemoteLookup ask;  // its id is the caller's to set
    int32_t first_block = 0;
  };
  std::optional<Lookup> MakeLookup(const ReuseScope& scope, std::span<const TokenId> tokens) const;

  // --- The end (kv_store_hand_down.cc).

  // When nobody holds a block any more and nobody will come: from here on PlanMoves copies to disk
  // what lies in memory alone, as far as the disk has room for what was used last: that first, and
  // each prefix from its beginning, so that whatever part of it gets there is found at the next
  // start. In the end the disk holds no block whose beginning it does not. Then what waits for the
  // remote tier is sent.
  void BeginHandDown();
  bool is_handing_down() const { return hand_down_.has_value(); }
  struct HandedDown {
    int32_t wanted = 0;  // blocks that the disk lacks and has room for
    int32_t copied = 0;  // of those
    bool ended = false;  // no more will be copied, and what was sent has been answered
  };
  HandedDown handed_down() const;

  // --- Who hears where blocks lie (kv_store_events.cc).

  // Call now and then; after each while IsAllTold() is false. Tells a reader who is new, or has
  // missed something, a part of what it lacks. Bounded; nothing where there is no reader.
  void TellAnew();
  bool IsAllTold() const {
    return options_.events == nullptr || (telling_ && next_to_tell_ >= tell_until_);
  }

  // --- The whole.

  // What the device holds is in doubt: pins end, and nothing on it is found any more, nor copied
  // from it. All tables have been released. What lies lower was proven and stays.
  void ForgetDevice(absl::Time now);

  BlockCounts counts() const { return pool_.counts(); }
  int32_t capacity() const { return pool_.capacity(); }
  // That can be had at once by `tenant`, evicting: others' floors are not.
  int32_t available(TenantIndex tenant = {}) const;
  const KvStoreCounters& counters() const { return counters_; }
  // Tokens that prompts of `tenant` found on each tier, as granted (partial blocks included).
  const TierTokens& hit_tokens(TenantIndex tenant) const;
  int32_t used_blocks(TierKind tier, TenantIndex tenant) const {
    return places_[TierAt(tier)].ledger.used(tenant);
  }
  int32_t used_blocks(TierKind tier) const { return places_[TierAt(tier)].ledger.num_used(); }
  // 0: there is no such tier.
  int32_t capacity(TierKind tier) const { return places_[TierAt(tier)].ledger.capacity(); }
  int32_t num_computing() const { return static_cast<int32_t>(computing_.size()); }
  void TakeObservations(KvObservations& out);  // swaps; `out` is cleared first
  const BlockPool& pool() const { return pool_; }
  const PrefixIndex& index() const { return index_; }

  void CheckInvariants() const;  // stops the process; O(everything), for tests and idle time

 private:
  enum class Arrival : uint8_t { kHere, kArriving, kFailed };

  struct DeviceBlock {
    TenantIndex owner{};         // while not free: whose share it counts against
    std::optional<NodeId> node;  // what it holds, or will when it has arrived
    Arrival arrival = Arrival::kHere;
    TierKind source = TierKind::kDevice;  // where it was restored from
    int64_t since_us = 0;                 // it holds this content
  };
  struct Slot {
    std::optional<NodeId> node;  // resident here
    uint8_t moves = 0;           // that read or fill it
    bool dropped = false;        // goes back to the tier when they end
  };
  struct Places {          // of one tier
    Tier* tier = nullptr;  // not of the device
    TierLedger ledger;
    std::vector<Slot> slots;  // not of the device
  };
  struct Move {
    MoveKind kind = MoveKind::kOffload;
    NodeId node{};
    BlockId block{};
    TierKind tier = TierKind::kHost;
    TierSlot slot{};
    TierSlot lower_slot{};
    LayerGate* gate = nullptr;
    bool doomed = false;  // the device was forgotten meanwhile
    bool read = false;    // of a send: its block was given back
  };
  struct GateUse {  // who keeps it from being armed again, besides the mover
    std::unique_ptr<LayerGate> gate;
    int32_t moves = 0;  // unanswered
    bool held = false;  // by the sequence that restores, until it needs it no more
  };
  struct Computing {
    ReuseScope scope{};
    std::optional<NodeId> parent;
    std::array<TokenId, kBlockTokens> tokens{};
    int32_t num_sequences = 0;
  };
  // A walk along what is known: stops before the first block that cannot be found or restored.
  struct PrefixEnd {
    int32_t num_blocks = 0;
    BlockKey key;  // of the last found
    std::optional<NodeId> node;
    bool at_ghost = false;
  };

  // Finding (kv_store.cc).
  template <typename Visit>
  PrefixEnd WalkPrefix(const ReuseScope& scope, std::span<const TokenId> tokens,
                       const RemotePrefix* remote, Visit visit) const;
  bool IsFindable(const PrefixNode& node) const;
  void ShareNode(NodeId node, absl::Time now);
  // The policies learn that the first `num_blocks` of `table` were used.
  void TellUsed(std::span<const BlockId> table, int32_t num_blocks, absl::Time now);
  void ObserveReuse(const NodeResidence& at, absl::Time now);  // of what nobody referred to
  void ReleaseBlock(BlockId block, absl::Time now);
  void KeepGhosts();
  void UnkeepGhosts();
  void EnterRemoteHits(const PrefixRequest& request, int32_t count, PrefixEnd& end);
  bool FitsWithHits(const PrefixRequest& request, int32_t num_fresh);
  void CountHits(const PublishedPrefix& prefix, const std::vector<BlockId>& table);
  void PlaceBlock(NodeId node, BlockId block, absl::Time now);
  void Register(const ReuseScope& scope, std::span<const TokenId> tokens, PublishedPrefix& prefix);
  void Unregister(PublishedPrefix& prefix);
  void EndPin(Pin&& pin, absl::Time now);

  // Accounts of places and their order of going (kv_store_places.cc).
  DeviceBlock& At(BlockId block) { return blocks_[static_cast<size_t>(Number(block))]; }
  const DeviceBlock& At(BlockId block) const { return blocks_[static_cast<size_t>(Number(block))]; }
  Slot& At(TierKind tier, TierSlot slot);
  TenantIndex OwnerOf(NodeId node, TierKind tier) const;
  bool Resident(const NodeResidence& at, TierKind tier) const;
  // Brings what the policy of a place and its parent are told in line with what holds now. After
  // every change of a place, its moves, its block's state or `children`.
  void Settle(NodeId node, TierKind tier, EvictionLeave why, absl::Time now) {
    SettleAs(node, tier, Resident(index_[node].at, tier), why, now);
  }
  void SettleAs(NodeId node, TierKind tier, bool resident, EvictionLeave why, absl::Time now);
  void Account(BlockId block, BlockState before, BlockState after);
  void Stay(NodeId node, absl::Time now);  // it was leaving, and somebody wants it
  [[nodiscard]] bool Lend(int32_t count, TenantIndex tenant, absl::Time now,
                          std::vector<BlockId>& table);
  bool EvictOwn(TenantIndex tenant, absl::Time now);
  bool EvictFor(TenantIndex tenant, absl::Time now);
  void EvictBlock(BlockId block, absl::Time now);
  void DropPlace(NodeId node, TierKind tier, EvictionLeave why, absl::Time now);
  void DropSlot(TierKind tier, TierSlot slot);
  void BeginUse(TierKind tier, TierSlot slot) { ++At(tier, slot).moves; }
  void EndUse(TierKind tier, TierSlot slot);

  // What is told (kv_store_events.cc). A place of the node is there, or is about to be given up.
  bool WasTold(const NodeResidence& at, TierKind tier) const;
  void Tell(NodeId node, TierKind tier, bool resident);
  void TellAlone(NodeId node, TierKind tier, bool resident);
  template <typename MayTell>
  bool TellDownTo(NodeId id, MayTell may_tell);

  // Moves (kv_store_moves.cc).
  enum class Reserve : uint8_t { kDone, kLater, kNever };
  bool MakeWay(NodeId node, TierKind tier, absl::Time now);  // false: later, or not at all
  Reserve ReserveSlot(TierKind tier, TenantIndex owner, absl::Time now, TierSlot& slot);
  bool TryDemote(NodeId node, absl::Time now);
  void StartOffload(NodeId node, TierKind tier, TierSlot slot, absl::Time now);
  void StartDemote(NodeId node, TierSlot lower, absl::Time now);
  // For the restores that `hits_` needs; nullptr: they come back whole.
  LayerGate* TakeGate();
  void GiveBackGate(PublishedPrefix& prefix);
  GateUse& UseOf(const LayerGate& gate) { return gates_[static_cast<size_t>(gate.number())]; }
  void StartRestore(NodeId node, BlockId block, absl::Time now, LayerGate* gate = nullptr);
  void Hand(const Move& move);
  void DemoteAhead(absl::Time now);
  void Leave(NodeId node, absl::Time now);  // chosen to go, and nothing is to be copied
  void OnOffloadDone(const Move& move, const absl::Status& status, absl::Time now);
  void OnRestoreDone(const Move& move, const absl::Status& status, absl::Time now);
  void OnDemoteDone(const Move& move, const absl::Status& status, absl::Time now);
  void StartSends(absl::Time now);
  void OnSendRead(Move& move, absl::Time now);
  void OnSendDone(Move& move, const absl::Status& status, absl::Time now);
  void CountFetch(const absl::Status& status, absl::Time now, NodeResidence& at);
  uint32_t RemoteUntil(absl::Time now) const;

  // The end (kv_store_hand_down.cc).
  struct HandDown {
    bool is_listed = false;      // the rest is known:
    uint64_t done_before = 0;    // copies that were done by then
    std::vector<NodeId> nodes;   // to be copied, in this order
    std::vector<NodeId> spares;  // on disk, to give room for them, from the last on
    size_t next = 0;
  };
  void PlanHandDown(absl::Time now);
  void ListHandDown(absl::Time now);
  std::vector<NodeId> KnownByUse() const;
  std::optional<TierSlot> ReserveForHandDown(TenantIndex owner, absl::Time now);
  bool IsWhollyCopied() const;
  uint64_t num_copied_down() const;
  int32_t background_moves() const { return num_offloads_ + num_demotes_; }
  bool has_lower_tier() const { return options_.host != nullptr || options_.disk != nullptr; }
  bool needs_digests() const { return has_lower_tier() || options_.remote_usable; }

  KvStoreOptions options_;  // constant but for the tenants
  BlockPool pool_;
  PrefixIndex index_;
  std::array<Places, kNumPlaceTiers> places_;
  std::vector<DeviceBlock> blocks_;
  DepartureList departures_;
  std::vector<int32_t> evictable_;  // device blocks in that state, by owner
  std::vector<int32_t> leaving_;    // nodes whose device block is leaving, by owner
  PinTable pins_;
  absl::flat_hash_map<BlockKey, Computing, PrefixIndex::KeyHash> computing_;

  absl::flat_hash_map<MoveId, Move> moves_;
  std::vector<MoveJob> jobs_;  // not taken yet
  uint64_t next_move_ = 1;
  int32_t num_offloads_ = 0, num_demotes_ = 0;
  int32_t num_sends_ = 0, num_read_ = 0;  // sends not answered; those whose blocks were given back
  std::vector<NodeId> to_send_;           // from next_send_ on; some may have been forgotten since
  size_t next_send_ = 0;
  std::vector<GateUse> gates_;
  absl::flat_hash_map<uint64_t, NodeId> adopted_;  // by the first bytes of the digest

  std::optional<HandDown> hand_down_;

  bool telling_ = false;      // every change; else nothing is told, until all is told anew
  uint32_t events_time_ = 0;  // how often that has begun
  // Nodes that there were then and may not have been told of since.
  int32_t next_to_tell_ = 0, tell_until_ = 0;
  std::vector<NodeId> told_of_;

  std::vector<NodeId> hits_;  // of the acquisition under way
  std::vector<BlockId> fresh_;
  std::vector<int32_t> hits_evictable_;  // by owner

  KvStoreCounters counters_;
  std::vector<TierTokens> hit_tokens_;  // by tenant
  KvObservations observations_;
};

}  // namespace holdfast
