// A medium that remembers what each device block and each slot really holds, and a mover that may
// be slow, reorder and fail: what the store believes is compared with it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "config/base/check.h"
#include "config/ids.h"
#include "config/limits.h"
#include "kvstore/block_identity.h"
#include "kvstore/kv_store.h"
#include "kvstore/move.h"
#include "kvstore/reuse_scope.h"
#include "kvstore/tier.h"

namespace holdfast {

// What 16 token places hold: for each, a name for scope and all tokens up to it. 0: nothing known.
using BlockContent = std::array<uint64_t, kBlockTokens>;

inline uint64_t NameAfter(uint64_t before, TokenId token) {
  uint64_t name =
      before ^ (static_cast<uint64_t>(static_cast<uint32_t>(token)) + 1) * 0x9e3779b97f4a7c15u;
  name ^= name >> 29;
  name *= 0xbf58476d1ce4e5b9u;
  return name ^ (name >> 32);
}
inline uint64_t NameOf(const ReuseScope& scope) { return NameAfter(0x5eed, scope[0] + 1); }

class FakeTier final : public Tier {
 public:
  FakeTier(TierKind kind, int32_t capacity) : kind_(kind), taken_(static_cast<size_t>(capacity)) {}

  TierKind kind() const override { return kind_; }
  int32_t capacity() const override { return static_cast<int32_t>(taken_.size()); }
  int32_t num_free() const override { return capacity() - num_taken_; }
  std::optional<TierSlot> TryReserve() override {
    if (refuse_) return std::nullopt;
    for (size_t i = 0; i < taken_.size(); ++i) {
      if (taken_[i]) continue;
      taken_[i] = true;
      ++num_taken_;
      return TierSlot{static_cast<int32_t>(i)};
    }
    return std::nullopt;
  }
  void Drop(TierSlot slot) override {
    CHECK(taken_[static_cast<size_t>(Number(slot))]);
    CHECK(!busy.contains(slot));  // a move uses it
    taken_[static_cast<size_t>(Number(slot))] = false;
    --num_taken_;
    content.erase(slot);
  }
  void Put(std::span<TierTransfer>) override { CHECK(false); }  // the store does no I/O
  void Fetch(std::span<TierTransfer>) override { CHECK(false); }

  void Refuse(bool refuse) { refuse_ = refuse; }

  std::map<TierSlot, BlockContent> content;
  std::multiset<TierSlot> busy;

 private:
  const TierKind kind_;
  std::vector<bool> taken_;
  int32_t num_taken_ = 0;
  bool refuse_ = false;
};

// Device and lower tiers together, and the jobs under way.
class FakeMedium final {
 public:
  FakeMedium(int32_t device_blocks, int32_t host_slots, int32_t disk_slots)
      : host(TierKind::kHost, host_slots),
        disk(TierKind::kDisk, disk_slots),
        device(static_cast<size_t>(device_blocks)) {}

  FakeTier& Of(TierKind tier) { return tier == TierKind::kHost ? host : disk; }
  BlockContent& At(BlockId block) { return device[static_cast<size_t>(Number(block))]; }

  void Start(const MoveJob& job) {
    if (job.tier != TierKind::kRemote) Of(job.tier).busy.insert(job.slot);
    if (job.kind == MoveKind::kDemote) disk.busy.insert(job.lower_slot);
    if (job.kind != MoveKind::kDemote) CHECK(moving.insert(job.block).second);
    // Half filled.
    if (job.kind == MoveKind::kRestore) At(job.block) = {};
    const bool reads = job.kind == MoveKind::kOffload || job.kind == MoveKind::kSend;
    jobs.push_back({job, reads ? At(job.block) : BlockContent{}});
  }

  // Of a send: its block has been copied out, and may be lent again.
  bool CanRead(size_t index) const {
    const MoveJob& job = jobs[index].first;
    return job.kind == MoveKind::kSend && !read.contains(job.id);
  }
  MoveDone Read(size_t index) {
    const auto& [job, seen] = jobs[index];
    if (!device_lost) CHECK(At(job.block) == seen);
    CHECK(read.insert(job.id).second);
    moving.erase(job.block);
    return {.id = job.id, .read = true};
  }

  // Ends one job: its bytes arrive now, unless `status` is a failure.
  MoveDone Finish(size_t index, absl::Status status) {
    const auto [job, seen] = jobs[index];
    jobs.erase(jobs.begin() + static_cast<std::ptrdiff_t>(index));
    if (job.tier == TierKind::kRemote) return FinishRemote(job, seen, std::move(status));
    FakeTier& tier = Of(job.tier);
    tier.busy.erase(tier.busy.find(job.slot));
    if (job.kind == MoveKind::kDemote) disk.busy.erase(disk.busy.find(job.lower_slot));
    if (job.kind != MoveKind::kDemote) moving.erase(job.block);
    switch (job.kind) {
      case MoveKind::kOffload:
        // Nobody wrote to it meanwhile, unless the device was lost.
        if (!device_lost) CHECK(At(job.block) == seen);
        tier.content[job.slot] = status.ok() ? At(job.block) : BlockContent{};
        break;
      case MoveKind::kRestore: {
        const BlockContent found = tier.content[job.slot];
        At(job.block) = status.ok() ? found : BlockContent{};
        break;
      }
      case MoveKind::kDemote: {
        const BlockContent found = tier.content[job.slot];
        disk.content[job.lower_slot] = status.ok() ? found : BlockContent{};
        break;
      }
      case MoveKind::kSend:
        CHECK(false);
    }
    if (jobs.empty()) device_lost = false;
    return {.id = job.id, .status = std::move(status)};
  }

  // What a look-up would be told.
  RemotePrefix LookUp(const KvStore::Lookup& lookup) const {
    RemotePrefix found{.first_block = lookup.first_block};
    BlockDigest digest = lookup.ask.parent;
    const std::span<const TokenId> tokens(lookup.ask.tokens);
    for (size_t i = 0; i < tokens.size(); i += kBlockTokens) {
      digest = NextDigest(digest, tokens.subspan(i).first<kBlockTokens>());
      if (!remote.contains(digest)) break;
      found.digests.push_back(digest);
    }
    return found;
  }

  FakeTier host, disk;
  std::map<BlockDigest, BlockContent> remote;
  std::vector<BlockContent> device;
  std::vector<std::pair<MoveJob, BlockContent>> jobs;
  std::set<BlockId> moving;
  std::set<MoveId> read;     // sends whose block was copied out
  bool device_lost = false;  // since the oldest job under way

 private:
  MoveDone FinishRemote(const MoveJob& job, const BlockContent& seen, absl::Status status) {
    if (job.kind == MoveKind::kSend) {
      const bool was_read = read.erase(job.id) == 1;
      if (!was_read) moving.erase(job.block);
      if (!was_read && !device_lost) CHECK(At(job.block) == seen);
      // A value that is broken is found to be: as if it were not there.
      if (status.ok()) remote[job.identity.digest] = seen;
    } else {
      moving.erase(job.block);
      const auto found = remote.find(job.identity.digest);
      if (status.ok() && found == remote.end()) status = absl::NotFoundError("evicted there");
      At(job.block) = status.ok() ? found->second : BlockContent{};
    }
    if (jobs.empty()) device_lost = false;
    return {.id = job.id, .status = std::move(status)};
  }
};

}  // namespace holdfast
