#include "kvstore/eviction/lru.h"

#include "absl/time/time.h"
#include "config/base/check.h"

namespace holdfast {

LruEviction::LruEviction(int32_t capacity) : heap_(capacity) { CHECK(capacity > 0); }

void LruEviction::Add(const EvictableBlock& block, absl::Time /*now*/) {
  heap_.Push(block.place,
             {.last_used = block.last_used, .depth = block.depth, .order = num_added_++});
}

void LruEviction::Remove(int32_t place, EvictionLeave /*why*/, absl::Time /*now*/) {
  heap_.Remove(place);
}

void LruEviction::OnUsed(uint64_t /*content*/, int32_t /*depth*/, absl::Time /*now*/) {}

std::optional<Victim> LruEviction::Worst(absl::Time /*now*/) {
  if (heap_.size() == 0) return std::nullopt;
  const auto& least = heap_.Top();
  return Victim{.place = least.place,
                .keep_value = absl::ToDoubleSeconds(least.key.last_used - absl::UnixEpoch())};
}

}  // namespace holdfast
