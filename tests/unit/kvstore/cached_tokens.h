// The oracle for prefix hits: how many tokens of a prompt a sequence would find in the store.
// Walks the index itself and changes nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "config/ids.h"
#include "kvstore/block_key.h"
#include "kvstore/kv_store.h"

namespace holdfast {

// At least the last token is left to compute, as in KvStore::TryAcquirePrefix.
inline int32_t CachedTokens(const KvStore& store, const ReuseScope& scope,
                            std::span<const TokenId> tokens,
                            const BlockKeyFunctions& keys = Xxh3BlockKeys()) {
  const std::optional<ScopeId> scope_id = store.index().FindScope(scope);
  if (!scope_id) return 0;
  BlockKey key = keys.root(scope);
  std::optional<NodeId> parent;
  int32_t num_tokens = 0;
  while (num_tokens + kBlockTokens < static_cast<int32_t>(tokens.size())) {
    const BlockTokens block = tokens.subspan(static_cast<size_t>(num_tokens)).first<kBlockTokens>();
    key = keys.next(key, block);
    parent = store.index().Find(key, *scope_id, parent, block);
    if (!parent) break;
    const auto& place = store.index()[*parent].at.place;
    if (std::all_of(place.begin(), place.end(), [](int32_t p) { return p == kNoPlace; })) break;
    num_tokens += kBlockTokens;
  }
  return num_tokens;
}

}  // namespace holdfast
