#include "kvstore/eviction/reuse_sample.h"

#include <algorithm>

namespace holdfast {
namespace {

// Each use brings the model up to date about this many of those still watched, so that
// what is not reused is not only known when it is dropped.
constexpr size_t kSweepEach = 8;
constexpr uint32_t kEventsPerRefresh = 256;

}  // namespace

ReuseSample::ReuseSample(uint64_t reach, ReuseModel& model)
    : reach_(reach), model_(model), events_to_refresh_(1) {}

void ReuseSample::Watch(uint64_t content, int32_t block_class, absl::Time now) {
  if (const auto at = by_content_.find(content); at != by_content_.end()) {
    Watched& before = ring_[at->second];
    See(before, now, ReuseModel::End::kReused);
    before.present = false;
    by_content_.erase(at);
  }
  MakeRoom(now);
  if (!IsSampled(content)) return;
  const Watched watched = {.content = content,
                           .last_used = now,
                           .seen_until = now,
                           .number = uses_,
                           .block_class = block_class,
                           .present = true};
  size_t index = ring_.size();
  if (index < kWatchedMax) {
    ring_.push_back(watched);
  } else {
    index = begin_;
    ring_[index] = watched;
    begin_ = (begin_ + 1) % kWatchedMax;
  }
  by_content_[content] = static_cast<uint32_t>(index);
  Sweep(now);
}

void ReuseSample::See(Watched& watched, absl::Time now, ReuseModel::End end) {
  model_.Observe(watched.block_class, absl::ToDoubleSeconds(watched.seen_until - watched.last_used),
                 absl::ToDoubleSeconds(now - watched.last_used), end);
  watched.seen_until = std::max(watched.seen_until, now);
}

void ReuseSample::MakeRoom(absl::Time now) {
  if (ring_.size() < kWatchedMax) return;
  Watched* oldest = &ring_[begin_];
  if (oldest->present && uses_ - oldest->number < reach_) {
    HalveShare();
    if (ring_.size() < kWatchedMax) return;
    oldest = &ring_[begin_];
  }
  if (!oldest->present) return;
  See(*oldest, now, ReuseModel::End::kUnused);
  by_content_.erase(oldest->content);
  oldest->present = false;
}

void ReuseSample::HalveShare() {
  ++halvings_;
  std::rotate(ring_.begin(), ring_.begin() + static_cast<std::ptrdiff_t>(begin_), ring_.end());
  begin_ = 0;
  by_content_.clear();
  std::erase_if(ring_, [&](const Watched& watched) {
    return !watched.present || !IsSampled(watched.content);
  });
  for (size_t i = 0; i < ring_.size(); ++i) {
    by_content_[ring_[i].content] = static_cast<uint32_t>(i);
  }
}

void ReuseSample::Sweep(absl::Time now) {
  for (size_t i = 0; i < std::min(kSweepEach, ring_.size()); ++i) {
    sweep_ = (sweep_ + 1) % ring_.size();
    if (ring_[sweep_].present) See(ring_[sweep_], now, ReuseModel::End::kUnused);
  }
  if (--events_to_refresh_ > 0) return;
  events_to_refresh_ = kEventsPerRefresh;
  model_.Refresh(now);
}

}  // namespace holdfast
