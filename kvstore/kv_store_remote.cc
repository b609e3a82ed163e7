// What the store copies to the remote tier, and what it makes of what came back from there.
#include <algorithm>

#include "config/base/check.h"
#include "kvstore/kv_store.h"

namespace holdfast {
namespace {

constexpr size_t kDevice = TierAt(TierKind::kDevice);

uint32_t Seconds(absl::Time time) {
  return static_cast<uint32_t>(std::clamp<int64_t>(absl::ToUnixSeconds(time), 0, UINT32_MAX));
}

}  // namespace

uint32_t KvStore::RemoteUntil(absl::Time now) const {
  return Seconds(now + options_.remote_refresh);
}

void KvStore::OfferToRemote(const std::vector<BlockId>& table, const PublishedPrefix& prefix,
                            absl::Time now) {
  if (!options_.remote_usable || prefix.restoring) return;
  const bool is_usable = options_.remote_usable();
  const uint32_t now_s = Seconds(now);
  for (int32_t i = 0; i < prefix.num_blocks; ++i) {
    const std::optional<NodeId> node = At(table[static_cast<size_t>(i)]).node;
    CHECK(node.has_value());
    NodeResidence& at = index_.residence(*node);
    if (at.to_send || now_s < at.remote_until_s) continue;
    if (!is_usable || to_send_.size() - next_send_ >= kSendQueueMax) {
      ++counters_.sends_skipped;
      continue;
    }
    at.to_send = true;
    to_send_.push_back(*node);
  }
}

void KvStore::StartSends(absl::Time now) {
  // Few at a time keep device blocks, so that nobody has to wait for one.
  const int32_t unread_max = std::max(1, capacity() / 16);
  while (next_send_ < to_send_.size() && num_sends_ < options_.sends_max &&
         num_sends_ - num_read_ < unread_max) {
    const NodeId node = to_send_[next_send_++];
    if (!index_.Contains(node)) {
      ++counters_.sends_skipped;
      continue;
    }
    NodeResidence& at = index_.residence(node);
    if (!at.to_send) continue;  // another content that has its number now
    at.to_send = false;
    // What has gone down or is about to is not brought back for this.
    if (at.place[kDevice] == kNoPlace || at.arriving || at.leaving || at.num_moves > 0 ||
        !options_.remote_usable()) {
      ++counters_.sends_skipped;
      continue;
    }
    const BlockId block{at.place[kDevice]};
    const BlockState before = pool_.state(block);
    Account(block, before, pool_.BeginMove(block));
    at.sending = true;
    Settle(node, TierKind::kDevice, EvictionLeave::kForgotten, now);
    ++num_sends_;
    Hand({.kind = MoveKind::kSend, .node = node, .block = block, .tier = TierKind::kRemote});
  }
  if (next_send_ == to_send_.size() || next_send_ >= kSendQueueMax) {
    to_send_.erase(to_send_.begin(), to_send_.begin() + static_cast<std::ptrdiff_t>(next_send_));
    next_send_ = 0;
  }
}

void KvStore::OnSendRead(Move& move, absl::Time now) {
  CHECK(move.kind == MoveKind::kSend && !move.read);
  move.read = true;
  ++num_read_;
  const BlockState before = pool_.state(move.block);
  Account(move.block, before, pool_.EndMove(move.block));
  if (move.doomed) return;
  index_.residence(move.node).sending = false;
  Settle(move.node, TierKind::kDevice, EvictionLeave::kForgotten, now);
}

void KvStore::OnSendDone(Move& move, const absl::Status& status, absl::Time now) {
  if (!move.read) OnSendRead(move, now);
  --num_read_;
  --num_sends_;
  if (status.ok()) index_.residence(move.node).remote_until_s = RemoteUntil(now);
}

void KvStore::CountFetch(const absl::Status& status, absl::Time now, NodeResidence& at) {
  // What was not good there is sent anew once it has been computed.
  at.remote_until_s = status.ok() ? RemoteUntil(now) : 0;
  ++(status.ok()                ? counters_.remote_fetched
     : absl::IsNotFound(status) ? counters_.remote_absent
     : absl::IsDataLoss(status) ? counters_.remote_unproven
                                : counters_.remote_failed);
}

}  // namespace holdfast
