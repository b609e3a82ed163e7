// Device blocks that were chosen to go and may be lent to others at any moment, first chosen first;
// one queue for each tenant, so that floors can be kept. Until then they are found as before: who
// is found is taken out. All calls O(1), but First: O(tenants).
//
// Thread: the scheduler's alone.    Bound: one link for each block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "config/base/check.h"
#include "config/ids.h"

namespace holdfast {

class DepartureList final {
 public:
  DepartureList(int32_t num_blocks, int32_t num_tenants)
      : num_blocks_(num_blocks), sizes_(static_cast<size_t>(num_tenants)) {
    for (int32_t i = 0; i < num_blocks + num_tenants; ++i)
      links_.push_back({.before = i, .after = i});
  }

  void AddTenant() {  // behind the others
    const auto anchor = static_cast<int32_t>(links_.size());
    links_.push_back({.before = anchor, .after = anchor});
    sizes_.push_back(0);
  }

  void Add(BlockId block, TenantIndex owner) {  // not in the list before
    const int32_t anchor = Anchor(owner);
    Link& link = links_[At(Number(block))];
    CHECK(link.after == Number(block));
    link = {.before = links_[At(anchor)].before, .after = anchor, .order = num_added_++};
    links_[At(link.before)].after = Number(block);
    links_[At(anchor)].before = Number(block);
    ++sizes_[At(Number(owner))];
    ++size_;
  }

  void Remove(BlockId block, TenantIndex owner) {  // in the list before
    Link& link = links_[At(Number(block))];
    CHECK(link.after != Number(block));
    links_[At(link.before)].after = link.after;
    links_[At(link.after)].before = link.before;
    link.before = link.after = Number(block);
    --sizes_[At(Number(owner))];
    --size_;
  }

  bool Contains(BlockId block) const { return links_[At(Number(block))].after != Number(block); }

  // The first chosen of those tenants for which `may_go(tenant)`.
  template <typename MayGo>
  std::optional<BlockId> First(MayGo may_go) const {
    std::optional<BlockId> first;
    uint64_t order = 0;
    if (size_ == 0) return first;
    for (size_t tenant = 0; tenant < sizes_.size(); ++tenant) {
      const TenantIndex owner{static_cast<int32_t>(tenant)};
      if (sizes_[tenant] == 0 || !may_go(owner)) continue;
      const int32_t block = links_[At(Anchor(owner))].after;
      if (first && links_[At(block)].order > order) continue;
      first = BlockId{block};
      order = links_[At(block)].order;
    }
    return first;
  }

  int32_t size() const { return size_; }

 private:
  struct Link {
    int32_t before = 0, after = 0;  // itself: in no list
    uint64_t order = 0;
  };
  static size_t At(int32_t index) { return static_cast<size_t>(static_cast<uint32_t>(index)); }
  int32_t Anchor(TenantIndex owner) const { return num_blocks_ + Number(owner); }

  const int32_t num_blocks_;
  std::vector<Link> links_;  // by block, then an anchor for each tenant
  std::vector<int32_t> sizes_;
  int32_t size_ = 0;
  uint64_t num_added_ = 0;
};

}  // namespace holdfast
