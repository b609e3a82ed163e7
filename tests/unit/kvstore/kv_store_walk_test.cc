// Random walks of all operations beside a medium that knows what every place really holds. What
// must hold after every step: a sequence finds only its own content, wherever it had been; nobody
// computes into what others hold or a move uses; states sum up; floors are kept; nothing leaks. The
// seed replays a failure.
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "gtest/gtest.h"
#include "kvstore/kv_store.h"
#include "tests/sim/seed_note.h"
#include "tests/unit/kvstore/cached_tokens.h"
#include "tests/unit/kvstore/fake_medium.h"

namespace holdfast {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint32_t kNumSeeds = 200;
#else
constexpr uint32_t kNumSeeds = 2200;
#endif
constexpr int kStepsPerSeed = 1000;
constexpr int32_t kNumTenants = 3;

BlockKeyFunctions WeakKeys() {
  return {
      .root = [](const ReuseScope&) { return BlockKey{}; },
      .next =
          [](const BlockKey& parent, BlockTokens tokens) {
            return BlockKey{.low = (parent.low * 3 + static_cast<uint64_t>(tokens[0]) + 1) % 13};
          }};
}

struct Totals {
  TierTokens hit_tokens{};
  uint64_t sends = 0, absent = 0;
  uint64_t cut = 0, forced = 0, expired = 0, copies = 0, suppressed = 0, dropped = 0, ghosts = 0;
  uint64_t demotes = 0, offloads = 0, doomed = 0, handed_down = 0;
  uint64_t events_lost = 0, in_step = 0;
};

// Knows of the store's blocks what it is told of them.
class Listener {
 public:
  struct Told {
    bool has_parent = false;
    uint64_t parent = 0;
    std::array<TokenId, kBlockTokens> tokens{};
    bool operator==(const Told&) const = default;
  };
  using Places = std::map<std::pair<uint64_t, TierKind>, Told>;

  // False: what was told makes no sense.
  bool Hear(KvEventRing& ring, size_t most) {
    std::vector<KvEvent> events(most);
    events.resize(ring.Take(events));
    for (const KvEvent& event : events) {
      const std::pair place(event.block, event.tier);
      switch (event.kind) {
        case KvEvent::Kind::kCleared:
          places_.clear();
          orphans = 0;
          break;
        case KvEvent::Kind::kStored:
          if (event.has_parent && !Knows(event.parent)) ++orphans;
          if (!places_.emplace(place, Told{event.has_parent, event.parent, event.tokens}).second) {
            return false;
          }
          break;
        case KvEvent::Kind::kRemoved:
          if (places_.erase(place) == 0) return false;
          break;
      }
    }
    return true;
  }
  bool Knows(uint64_t block) const {
    const auto found = places_.lower_bound({block, TierKind::kDevice});
    return found != places_.end() && found->first.first == block;
  }
  const Places& places() const { return places_; }
  uint64_t orphans = 0;  // told, though their parent was not known

 private:
  Places places_;
};

class StoreWalk {
 public:
  StoreWalk(uint32_t seed, BlockKeyFunctions keys)
      : rng_(seed),
        keys_(keys),
        exact_keys_(keys.next == Xxh3BlockKeys().next),
        faults_(rng_() % 3),
        sharing_(rng_() % 2 == 0),
        device_blocks_(Between(6, 28)),
        host_slots_(rng_() % 4 == 0 ? 0 : Between(1, 20)),
        disk_slots_(rng_() % 4 == 0 ? 0 : Between(1, 30)),
        with_remote_(rng_() % 2 == 0),
        ring_(rng_() % 4 == 0 ? 1000 : static_cast<size_t>(Between(1, 40))),
        medium_(device_blocks_, host_slots_, disk_slots_) {
    KvStoreOptions options{.device_blocks = device_blocks_, .keys = keys};
    options.tenants.resize(kNumTenants);
    for (TenantShares& tenant : options.tenants) {
      for (TierShare& share : tenant.tiers) {
        share.floor_blocks = Between(0, 2);
        if (rng_() % 6 == 0) share.ceiling_blocks = Between(2, 12);
        has_ceilings_ |= share.ceiling_blocks.has_value();
      }
      if (rng_() % 3 == 0) tenant.pinned_blocks_max = Between(0, 6);
    }
    if (host_slots_ > 0) options.host = &medium_.host;
    if (disk_slots_ > 0) options.disk = &medium_.disk;
    if (with_remote_) options.remote_usable = [this] { return faults_ == 0 || step_ % 9 != 0; };
    options.sends_max = Between(1, 6);
    options.remote_refresh = absl::Seconds(Between(0, 20));
    options.block_bytes = 100;
    listens_ = rng_() % 4 != 0;
    if (listens_) options.events = &ring_;
    options.moves_max = Between(1, 8);
    options.low_water = 0.1 * Between(rng_() % 4 == 0 ? 0 : 2, 8);
    for (TenantShares& tenant : options.tenants) floors_.push_back(tenant.tiers[0].floor_blocks);
    store_ = std::make_unique<KvStore>(std::move(options));
  }

  void Run() {
    for (step_ = 0; step_ < kStepsPerSeed; ++step_) {
      Step();
      if (testing::Test::HasFatalFailure()) return;
      Listen();
      if (testing::Test::HasFatalFailure()) return;
      CheckAll();
      if (testing::Test::HasFatalFailure()) return;
    }
    End();
  }

  void AddTo(Totals& totals) const {
    for (int32_t i = 0; i < kNumTenants; ++i) {
      for (size_t t = 0; t < kNumTiers; ++t) {
        totals.hit_tokens[t] += store_->hit_tokens(TenantIndex{i})[t];
      }
    }
    totals.cut += store_->counters().restores_cut;
    totals.ghosts += store_->counters().ghosts_met;
    totals.dropped += store_->counters().dropped_without_copy;
    totals.forced += store_->pins().num_ended(PinEnd::kForced);
    totals.expired += store_->pins().num_ended(PinEnd::kExpired);
    totals.offloads += store_->counters().moves[0].done;
    totals.demotes += store_->counters().moves[2].done;
    totals.handed_down += static_cast<uint64_t>(store_->handed_down().copied);
    totals.sends += store_->counters().moves[3].done;
    totals.absent += store_->counters().remote_absent;
    totals.copies += copies_;
    totals.suppressed += suppressed_;
    totals.events_lost += ring_.num_lost();
    totals.in_step += in_step_;
  }

 private:
  struct Live {
    ReuseScope scope{};
    TenantIndex tenant{};
    std::vector<TokenId> tokens;
    PrefixReuse reuse = PrefixReuse::kMatchAndPublish;
    int32_t computed = 0;
    std::vector<BlockId> table;
    PublishedPrefix prefix;

    PrefixRequest Request(int32_t spare_blocks = 0) const {
      return {.scope = scope,
              .tokens = tokens,
              .reuse = reuse,
              .tenant = tenant,
              .num_blocks = BlocksFor(static_cast<int64_t>(tokens.size())),
              .spare_blocks = spare_blocks};
    }
  };

  int32_t Between(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(rng_() % static_cast<uint32_t>(high - low + 1));
  }

  void Step() {
    now_ += absl::Milliseconds(Between(0, 50));
    if (rng_() % 200 == 0) now_ += absl::Seconds(Between(-3600, 3600));  // the clock jumps
    switch (rng_() % 16) {
      case 0:
      case 1:
      case 2:
      case 3:
        return live_.size() < 5 ? Arrive() : Leave();
      case 4:
      case 5:
      case 6:
      case 7:
        return Compute();
      case 8:
        return rng_() % 4 == 0 ? Grow() : Compute();
      case 9:
      case 10:
        return Leave();
      case 11:
      case 12:
        return FinishMove();
      case 13:
      case 14:
        return PlanMoves();
      case 15:
        return Pins();
    }
  }

  std::vector<uint64_t> Names(const Live& sequence) const {
    std::vector<uint64_t> names;
    uint64_t name = NameOf(sequence.scope);
    for (TokenId token : sequence.tokens) names.push_back(name = NameAfter(name, token));
    return names;
  }

  // Every token computed or found lies where the table says.
  void CheckContent(const Live& sequence) {
    if (sequence.prefix.restoring) return;
    const std::vector<uint64_t> names = Names(sequence);
    for (int32_t i = 0; i < sequence.computed; ++i) {
      const BlockId block = sequence.table[static_cast<size_t>(i / kBlockTokens)];
      ASSERT_EQ(medium_.At(block)[static_cast<size_t>(i % kBlockTokens)],
                names[static_cast<size_t>(i)])
          << "step " << step_ << " token " << i;
    }
  }

  std::array<int32_t, kNumTenants> Used() const {
    std::array<int32_t, kNumTenants> used{};
    for (int32_t i = 0; i < kNumTenants; ++i) {
      used[static_cast<size_t>(i)] = store_->used_blocks(TierKind::kDevice, TenantIndex{i});
    }
    return used;
  }

  void CheckFloors(const std::array<int32_t, kNumTenants>& before, TenantIndex taker) {
    if (sharing_) return;  // what lies on top of others' blocks goes before these
    for (int32_t i = 0; i < kNumTenants; ++i) {
      if (TenantIndex{i} == taker) continue;
      const auto at = static_cast<size_t>(i);
      ASSERT_GE(Used()[at], std::min(before[at], floors_[at])) << "step " << step_;
    }
  }

  void Arrive() {
    Live sequence;
    // Two scopes of one tenant each, and maybe one that all share.
    const int32_t scope = Between(0, sharing_ ? 2 : 1);
    sequence.scope = {static_cast<uint8_t>(scope)};
    sequence.tenant = scope == 2 ? TenantIndex{Between(0, kNumTenants - 1)} : TenantIndex{scope};
    const int32_t num_blocks = Between(0, 6);
    for (int32_t i = 0; i < num_blocks; ++i) AddBlock(sequence.tokens);
    sequence.tokens.insert(sequence.tokens.end(), static_cast<size_t>(Between(1, kBlockTokens)), 1);
    sequence.reuse = static_cast<PrefixReuse>(rng_() % 8 < 6 ? 0 : 1 + rng_() % 2);
    const bool suppressed = CheckSuppression(sequence);
    if (suppressed && rng_() % 2 == 0) return;
    const RemotePrefix remote = AskRemote(sequence);
    const auto used = Used();
    const BlockCounts counts = store_->counts();
    PrefixRequest request = sequence.Request(Between(0, 3));
    if (!remote.digests.empty()) request.remote = &remote;
    std::optional<PrefixGrant> grant =
        store_->TryAcquirePrefix(request, now_, sequence.table, sequence.prefix);
    CheckFloors(used, sequence.tenant);
    TakeMoves();
    if (!grant) {
      ASSERT_TRUE(sequence.table.empty());
      ASSERT_EQ(store_->counts().held, counts.held);
      return;
    }
    ASSERT_EQ(static_cast<int32_t>(sequence.table.size()), request.num_blocks);
    ASSERT_LT(grant->cached_tokens, static_cast<int32_t>(sequence.tokens.size()));
    ASSERT_EQ(grant->restoring_blocks > 0, sequence.prefix.restoring);
    if (sequence.reuse != PrefixReuse::kMatchAndPublish) {
      ASSERT_EQ(grant->cached_tokens, 0);
    }
    if (!sequence.prefix.restoring) CopyPinned(sequence, request, *grant);
    sequence.computed = grant->cached_tokens;
    CheckContent(sequence);
    live_.push_back(std::move(sequence));
  }

  // Steps may lie between question and answer, and between the answer and its use.
  RemotePrefix AskRemote(const Live& sequence) {
    const std::optional<KvStore::Lookup> lookup =
        store_->MakeLookup(sequence.scope, sequence.tokens);
    if (!with_remote_ || !lookup || rng_() % 4 == 0) return {};
    EXPECT_EQ(lookup->first_block * kBlockTokens,
              CachedTokens(*store_, sequence.scope, sequence.tokens, keys_));
    if (rng_() % 4 == 0) PlanMoves();
    const RemotePrefix found = medium_.LookUp(*lookup);
    if (rng_() % 4 == 0) FinishMove();
    if (rng_() % 8 == 0 && !found.digests.empty()) {  // evicted since
      medium_.remote.erase(found.digests[rng_() % found.digests.size()]);
    }
    return found;
  }

  void AddBlock(std::vector<TokenId>& tokens) {
    tokens.insert(tokens.end(), kBlockTokens, static_cast<TokenId>(rng_() % 3));
  }

  bool CheckSuppression(const Live& sequence) {
    const bool answer = store_->IsBeingComputed(sequence.scope, sequence.tokens);
    const int32_t found = CachedTokens(*store_, sequence.scope, sequence.tokens, keys_);
    const auto end = static_cast<size_t>(found) + kBlockTokens;
    bool expected = false;
    if (sequence.tokens.size() > end) {
      for (const Live& other : live_) {
        // Registered when its last block was published; what it grew by since is not known yet.
        if (!other.prefix.computing || other.scope != sequence.scope) continue;
        if (other.prefix.num_blocks != found / kBlockTokens) continue;
        if (other.tokens.size() <= end) continue;
        expected |= std::equal(sequence.tokens.begin(),
                               sequence.tokens.begin() + static_cast<std::ptrdiff_t>(end),
                               other.tokens.begin());
      }
    }
    if (answer) {
      EXPECT_TRUE(expected) << "step " << step_;
      ++suppressed_;
    }
    if (exact_keys_) {
      EXPECT_EQ(answer, expected) << "step " << step_;
    }
    return answer;
  }

  void CopyPinned(Live& sequence, const PrefixRequest& request, PrefixGrant& grant) {
    const std::optional<PartialBlock> partial =
        store_->PinnedPartial(sequence.tenant, std::to_string(rng_() % 3));
    if (!partial) return;
    const std::optional<BlockCopy> copy =
        store_->CopyPartial(*partial, request, sequence.table, sequence.prefix, grant);
    if (!copy) return;
    ++copies_;
    ASSERT_EQ(store_->pool().references(copy->to), 1);
    for (size_t i = 0; i < static_cast<size_t>(copy->num_tokens); ++i) {
      medium_.At(copy->to)[i] = medium_.At(copy->from)[i];
    }
  }

  Live* Any() {
    if (live_.empty()) return nullptr;
    std::swap(live_[rng_() % live_.size()], live_.back());
    return &live_.back();
  }

  // Polls one that waits, or computes some tokens as a committed step does.
  void Compute() {
    Live* sequence = Any();
    if (sequence == nullptr) return;
    if (sequence->prefix.restoring) {
      const RestorePoll poll =
          store_->PollRestore(sequence->Request(), now_, sequence->table, sequence->prefix);
      switch (poll.state) {
        case RestorePoll::State::kPending:
          return;
        case RestorePoll::State::kReady:
          ASSERT_LE(poll.cached_tokens, sequence->computed);
          ASSERT_EQ(sequence->table.size(), static_cast<size_t>(sequence->Request().num_blocks));
          sequence->computed = poll.cached_tokens;
          return CheckContent(*sequence);
        case RestorePoll::State::kNoRoom:
          ASSERT_TRUE(sequence->table.empty());
          live_.pop_back();
          return;
      }
    }
    const std::vector<uint64_t> names = Names(*sequence);
    const auto size = static_cast<int32_t>(sequence->tokens.size());
    const int32_t end = std::min(size, sequence->computed + Between(1, 40));
    for (int32_t i = sequence->computed; i < end; ++i) {
      const BlockId block = sequence->table[static_cast<size_t>(i / kBlockTokens)];
      ASSERT_EQ(store_->pool().references(block), 1) << "step " << step_;
      ASSERT_FALSE(store_->pool().published(block)) << "step " << step_;
      ASSERT_FALSE(medium_.moving.contains(block)) << "step " << step_;
      medium_.At(block)[static_cast<size_t>(i % kBlockTokens)] = names[static_cast<size_t>(i)];
    }
    sequence->computed = end;
    store_->Publish(sequence->scope, sequence->tokens, end, sequence->reuse, now_, sequence->table,
                    sequence->prefix);
    CheckContent(*sequence);
  }

  void Grow() {
    Live* sequence = Any();
    if (sequence == nullptr || sequence->prefix.restoring) return;
    const auto used = Used();
    const std::vector<BlockId> before = sequence->table;
    const int32_t count = Between(1, 2);
    const bool fits = store_->TryAcquire(count, sequence->tenant, now_, sequence->table);
    CheckFloors(used, sequence->tenant);
    if (!fits) {
      ASSERT_EQ(sequence->table, before);
      if (rng_() % 2 == 0) store_->ForceLeastPin(now_);
      return;
    }
    const auto missing = kBlockTokens - sequence->tokens.size() % kBlockTokens;
    sequence->tokens.insert(sequence->tokens.end(), missing % kBlockTokens, 2);
    for (int32_t i = 0; i < count; ++i) AddBlock(sequence->tokens);
  }

  void Leave() {
    Live* sequence = Any();
    if (sequence == nullptr) return;
    bool pinned = false;
    if (rng_() % 4 != 0) store_->OfferToRemote(sequence->table, sequence->prefix, now_);
    if (!sequence->prefix.restoring && rng_() % 2 == 0) {
      const PinRequest pin{.tenant = sequence->tenant,
                           .session = std::to_string(rng_() % 3),
                           .priority = Between(0, 2),
                           .deadline = now_ + absl::Milliseconds(Between(0, 1500))};
      const std::vector<BlockId> before = sequence->table;
      pinned =
          store_->TryPin(pin, sequence->scope,
                         std::span(sequence->tokens).first(static_cast<size_t>(sequence->computed)),
                         now_, sequence->table, sequence->prefix);
      if (!pinned) {
        ASSERT_EQ(sequence->table, before);
      }
    }
    if (!pinned) store_->Release(now_, sequence->table, sequence->prefix);
    ASSERT_TRUE(sequence->table.empty());
    live_.pop_back();
  }

  void TakeMoves() {
    std::vector<MoveJob> jobs;
    store_->TakeMoves(jobs);
    for (const MoveJob& job : jobs) medium_.Start(job);
  }

  void PlanMoves() {
    medium_.host.Refuse(faults_ > 0 && rng_() % 8 == 0);
    medium_.disk.Refuse(faults_ > 0 && rng_() % 8 == 0);
    store_->PlanMoves(now_);
    TakeMoves();
  }

  void FinishMove() {
    if (medium_.jobs.empty()) return;
    absl::Status status;
    if (faults_ == 2 && rng_() % 3 == 0) {
      const std::array<absl::Status, 3> kinds = {absl::DataLossError("corrupt"),
                                                 absl::UnavailableError("slow"),
                                                 absl::ResourceExhaustedError("full")};
      status = kinds[rng_() % kinds.size()];
    }
    const size_t index = rng_() % medium_.jobs.size();
    if (medium_.CanRead(index) && rng_() % 2 == 0) {
      store_->OnMoveDone(medium_.Read(index), now_);
    } else {
      store_->OnMoveDone(medium_.Finish(index, status), now_);
    }
  }

  void Pins() {
    switch (rng_() % 8) {
      case 0:
        store_->ReleasePin(TenantIndex{Between(0, 2)}, std::to_string(rng_() % 3), PinEnd::kFinal,
                           now_);
        break;
      case 1:
        if (rng_() % 16 == 0) LoseDevice();
        break;
      default:
        store_->ExpirePins(now_);
        break;
    }
  }

  void LoseDevice() {
    for (Live& sequence : live_) store_->Release(now_, sequence.table, sequence.prefix);
    live_.clear();
    store_->ForgetDevice(now_);
    for (BlockContent& content : medium_.device) content = {};
    medium_.device_lost = !medium_.jobs.empty();
    ASSERT_EQ(store_->counts().held + store_->counts().evictable, 0);
  }

  // Late and now and then, as a busy reader would; and when it is in step, it knows exactly what
  // there is, on each tier, and so what another sequence would find.
  void Listen() {
    if (rng_() % 3 == 0) store_->TellAnew();
    if (rng_() % 3 == 0) {
      ASSERT_TRUE(listener_.Hear(ring_, static_cast<size_t>(Between(1, 50)))) << "step " << step_;
    }
    CheckListener();
  }
  void CheckListener() {
    if (!store_->IsAllTold() || !ring_.IsEmpty() || !listens_) return;
    ++in_step_;
    Listener::Places there;
    const PrefixIndex& index = store_->index();
    for (int32_t i = 0; i < index.num_nodes_ever(); ++i) {
      const NodeId id{static_cast<uint32_t>(i)};
      if (!index.Contains(id)) continue;
      const PrefixNode& node = index[id];
      const std::optional<NodeId> parent = index.parent(id);
      for (TierKind tier : {TierKind::kDevice, TierKind::kHost, TierKind::kDisk}) {
        if (node.at.place[TierAt(tier)] == kNoPlace) continue;
        if (tier == TierKind::kDevice && node.at.arriving) continue;
        there[{node.key.low, tier}] = {parent.has_value(), parent ? index[*parent].key.low : 0,
                                       node.tokens};
      }
    }
    ASSERT_EQ(listener_.places(), there) << "step " << step_;
    // With lower tiers a parent may go for good while its child is copied.
    if (host_slots_ == 0 && disk_slots_ == 0 && !with_remote_) {
      ASSERT_EQ(listener_.orphans, 0u) << "step " << step_;
    }
  }
  void ListenToTheEnd() {
    for (int i = 0; !store_->IsAllTold() || !ring_.IsEmpty(); ++i) {
      ASSERT_LT(i, 10'000) << "it never catches up";
      store_->TellAnew();
      ASSERT_TRUE(listener_.Hear(ring_, 1000));
    }
    CheckListener();
  }

  void CheckAll() {
    store_->CheckInvariants();
    for (const auto& [job, seen] : medium_.jobs) {
      if (job.kind == MoveKind::kSend) {
        ASSERT_EQ(job.identity.digest, NextDigest(job.identity.parent, job.identity.tokens));
      }
    }
    std::set<BlockId> held;
    std::map<BlockId, int32_t> references;
    for (const Live& sequence : live_) {
      CheckContent(sequence);
      for (BlockId block : sequence.table) ++references[block];
    }
    store_->pins().ForEach([&](const Pin& pin) {
      for (BlockId block : pin.blocks) ++references[block];
    });
    for (const auto& [block, count] : references) {
      ASSERT_EQ(store_->pool().references(block), count);
    }
    ASSERT_EQ(store_->counts().held, static_cast<int32_t>(references.size()));
    ASSERT_LE(store_->pins().num_blocks(), device_blocks_ / 2);
    ASSERT_LE(store_->num_computing(), static_cast<int32_t>(live_.size()));
    // What is findable holds what its node says: the sequence of its ancestors' tokens.
    const PrefixIndex& index = store_->index();
    for (int32_t i = 0; i < index.num_nodes_ever(); ++i) {
      const NodeId id{static_cast<uint32_t>(i)};
      if (!index.Contains(id)) continue;
      const PrefixNode& node = index[id];
      const uint64_t name = NameOfNode(id);
      if (node.at.place[0] != kNoPlace && !node.at.arriving) {
        ASSERT_EQ(medium_.At(BlockId{node.at.place[0]}).back(), name) << "step " << step_;
      }
      for (TierKind tier : {TierKind::kHost, TierKind::kDisk}) {
        const int32_t slot = node.at.place[TierAt(tier)];
        if (slot == kNoPlace) continue;
        ASSERT_EQ(medium_.Of(tier).content.at(TierSlot{slot}).back(), name) << "step " << step_;
      }
    }
  }

  uint64_t NameOfNode(NodeId id) const {
    const PrefixIndex& index = store_->index();
    const std::optional<NodeId> parent = index.parent(id);
    uint64_t name = parent ? NameOfNode(*parent) : NameOf(index.scope(id));
    for (TokenId token : index[id].tokens) name = NameAfter(name, token);
    return name;
  }

  void End() {
    for (Live& sequence : live_) store_->Release(now_, sequence.table, sequence.prefix);
    live_.clear();
    while (store_->ForceLeastPin(now_)) {
    }
    TakeMoves();
    while (!medium_.jobs.empty()) store_->OnMoveDone(medium_.Finish(0, absl::OkStatus()), now_);
    CheckAll();
    ASSERT_EQ(store_->num_moves(), 0);
    ASSERT_EQ(store_->num_computing(), 0);
    const BlockCounts counts = store_->counts();
    ASSERT_EQ(counts.free + counts.evictable, device_blocks_);
    ListenToTheEnd();
    HandDown();
    store_->ForgetDevice(now_);
    ListenToTheEnd();
    ASSERT_EQ(store_->counts().free, device_blocks_);
    store_->CheckInvariants();
  }

  bool IsOnDisk(NodeId id) const {
    return store_->index()[id].at.place[TierAt(TierKind::kDisk)] != kNoPlace;
  }
  bool IsWhole(NodeId id) const {  // nothing of the prefix is missing
    const auto& place = store_->index()[id].at.place;
    if (std::all_of(place.begin(), place.end(), [](int32_t p) { return p == kNoPlace; })) {
      return false;
    }
    const std::optional<NodeId> parent = store_->index().parent(id);
    return !parent || IsWhole(*parent);
  }
  std::set<NodeId> Found(bool in_memory) const {  // or what lies elsewhere alone
    std::set<NodeId> found;
    for (int32_t i = 0; i < store_->index().num_nodes_ever(); ++i) {
      const NodeId id{static_cast<uint32_t>(i)};
      if (!store_->index().Contains(id)) continue;
      if (in_memory ? IsWhole(id) && !IsOnDisk(id) : IsOnDisk(id)) found.insert(id);
    }
    return found;
  }

  void HandDown() {
    const std::set<NodeId> before = Found(false);
    store_->BeginHandDown();
    for (int i = 0; !store_->handed_down().ended; ++i) {
      ASSERT_LT(i, 1000) << "it never ends";
      PlanMoves();
      FinishMove();
      CheckAll();
      if (testing::Test::HasFatalFailure()) return;
    }
    for (NodeId id : Found(false)) {
      const std::optional<NodeId> parent = store_->index().parent(id);
      if (before.contains(id) || !parent || faults_ > 0) continue;
      ASSERT_TRUE(IsOnDisk(*parent)) << "what comes back needs its beginning";
    }
    const bool has_room = disk_slots_ > 0 && medium_.disk.num_free() > 0 && !has_ceilings_;
    if (has_room && faults_ == 0) {
      ASSERT_TRUE(Found(true).empty());
    }
  }

  std::mt19937 rng_;
  const BlockKeyFunctions keys_;
  const bool exact_keys_;
  const uint32_t faults_;  // none, full tiers, failing moves
  const bool sharing_;     // one scope is several tenants'
  const int32_t device_blocks_, host_slots_, disk_slots_;
  const bool with_remote_;
  KvEventRing ring_;
  Listener listener_;
  FakeMedium medium_;
  std::vector<int32_t> floors_;
  bool has_ceilings_ = false, listens_ = false;
  std::unique_ptr<KvStore> store_;
  std::vector<Live> live_;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1000);
  int step_ = 0;
  uint64_t copies_ = 0, suppressed_ = 0, in_step_ = 0;
};

unsigned long long Print(uint64_t count) { return count; }

void WalkAll(BlockKeyFunctions keys, uint32_t first, uint32_t end, Totals& totals) {
  for (uint32_t seed = first; seed < end; ++seed) {
    const SeedNote note("the walk", seed);
    StoreWalk walk(seed, keys);
    walk.Run();
    walk.AddTo(totals);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(KvStoreWalkTest, NothingWrongIsEverServedFromAnyTier) {
  Totals totals;
  WalkAll(Xxh3BlockKeys(), 0, kNumSeeds * 9 / 10, totals);
  std::printf(
      "hit tokens %llu device %llu host %llu disk; %llu cut %llu forced %llu expired %llu copies "
      "%llu suppressed %llu dropped %llu ghosts %llu offloads %llu demotes; remote: hit tokens "
      "%llu, %llu sends %llu absent\n",
      Print(totals.hit_tokens[0]), Print(totals.hit_tokens[1]), Print(totals.hit_tokens[2]),
      Print(totals.cut), Print(totals.forced), Print(totals.expired), Print(totals.copies),
      Print(totals.suppressed), Print(totals.dropped), Print(totals.ghosts), Print(totals.offloads),
      Print(totals.demotes), Print(totals.hit_tokens[3]), Print(totals.sends),
      Print(totals.absent));
  // The walk meets what it is about.
  for (uint64_t tokens : totals.hit_tokens) EXPECT_GT(tokens, 100u);
  for (uint64_t count :
       {totals.cut, totals.forced, totals.expired, totals.copies, totals.suppressed, totals.dropped,
        totals.offloads, totals.demotes, totals.sends, totals.absent, totals.handed_down,
        totals.events_lost, totals.in_step}) {
    EXPECT_GT(count, 10u);
  }
}

TEST(KvStoreWalkTest, NorWithKeysThatCollide) {
  Totals totals;
  WalkAll(WeakKeys(), 0, kNumSeeds / 10 + 1, totals);
  EXPECT_GT(totals.offloads, 10u);
}

}  // namespace
}  // namespace holdfast
