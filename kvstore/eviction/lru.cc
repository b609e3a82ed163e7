#include "kvstore/eviction/lru.h"

#include "config/base/check.h"

namespace holdfast {

LruEviction::LruEviction(int32_t capacity) : anchor_(capacity) {
  CHECK(capacity > 0);
  links_.resize(static_cast<size_t>(capacity) + 1);
  links_.back() = {.older = anchor_, .newer = anchor_, .linked = true};
}

LruEviction::Link& LruEviction::At(BlockId block) {
  CHECK(Number(block) >= 0 && Number(block) < anchor_);
  return links_[static_cast<size_t>(Number(block))];
}

void LruEviction::Add(BlockId block) {
  Link& link = At(block);
  Link& anchor = links_.back();
  CHECK(!link.linked);
  link = {.older = anchor.older, .newer = anchor_, .linked = true};
  links_[static_cast<size_t>(anchor.older)].newer = Number(block);
  anchor.older = Number(block);
  ++size_;
}

void LruEviction::Remove(BlockId block) {
  Link& link = At(block);
  CHECK(link.linked);
  links_[static_cast<size_t>(link.older)].newer = link.newer;
  links_[static_cast<size_t>(link.newer)].older = link.older;
  link.linked = false;
  --size_;
}

std::optional<BlockId> LruEviction::Oldest() const {
  if (size_ == 0) return std::nullopt;
  return BlockId{links_.back().newer};
}

}  // namespace holdfast
