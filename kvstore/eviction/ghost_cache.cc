#include "kvstore/eviction/ghost_cache.h"

#include <optional>
#include <utility>

#include "config/base/check.h"

namespace holdfast {

GhostCache::GhostCache(int32_t capacity, std::unique_ptr<EvictionPolicy> order)
    : capacity_(capacity), order_(std::move(order)) {
  CHECK(capacity > 0 && order_->size() == 0);
}

void GhostCache::BeginChain(absl::Time now) {
  if (last_ != kNone && At(last_).num_children == 0) Offer(last_, now);
  last_ = kNone;
  cut_ = false;
}

bool GhostCache::Use(uint64_t content, int32_t depth, absl::Time now) {
  if (cut_) return false;
  const auto at = by_content_.find(content);
  if (at != by_content_.end()) {
    const int32_t before = last_;
    last_ = at->second;
    // Of a chain that was told in part, what was missed may lie between them.
    if (before != kNone && At(before).num_children == 0) Offer(before, now);
    Entry& entry = At(last_);
    if (entry.offered) order_->Remove(last_, EvictionLeave::kReused, now);
    entry.offered = false;
    entry.last_used = now;
    return true;
  }
  const int32_t place = TakePlace(now);
  if (place == kNone) {
    cut_ = true;
    return false;
  }
  At(place) = {.content = content, .last_used = now, .depth = depth, .parent = last_};
  by_content_[content] = place;
  if (last_ != kNone) ++At(last_).num_children;
  last_ = place;
  return false;
}

void GhostCache::Offer(int32_t place, absl::Time now) {
  Entry& entry = At(place);
  CHECK(!entry.offered && entry.num_children == 0);
  entry.offered = true;
  order_->Add({.place = place,
               .depth = entry.depth,
               .content = entry.content,
               .last_used = entry.last_used},
              now);
}

int32_t GhostCache::TakePlace(absl::Time now) {
  if (entries_.size() < static_cast<size_t>(capacity_)) {
    entries_.emplace_back();
    return static_cast<int32_t>(entries_.size()) - 1;
  }
  const std::optional<Victim> victim = order_->Worst(now);
  if (!victim) return kNone;
  order_->Remove(victim->place, EvictionLeave::kEvicted, now);
  const Entry& gone = At(victim->place);
  by_content_.erase(gone.content);
  if (gone.parent != kNone && --At(gone.parent).num_children == 0 && gone.parent != last_) {
    Offer(gone.parent, now);
  }
  return victim->place;
}

}  // namespace holdfast
