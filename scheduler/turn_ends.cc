#include "scheduler/turn_ends.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "config/base/check.h"

namespace holdfast {
namespace {

BlockTokens BlockAt(std::span<const TokenId> tokens, int32_t index) {
  return BlockTokens(tokens.subspan(static_cast<size_t>(index) * kBlockTokens, kBlockTokens));
}

bool StartsWith(std::span<const TokenId> tokens, std::span<const TokenId> with) {
  return tokens.size() >= with.size() && std::equal(with.begin(), with.end(), tokens.begin());
}

}  // namespace

TurnEnds::TurnEnds(BlockKeyFunctions keys, int32_t num_tenants, absl::Duration keep_max)
    : keys_(keys), keep_max_(keep_max), tenants_(static_cast<size_t>(num_tenants)) {}

std::optional<TurnEnds::End> TurnEnds::Take(TenantIndex tenant_index, const ReuseScope& scope,
                                            std::span<const TokenId> prompt, absl::Time now,
                                            PromptKey& key) {
  Tenant& tenant = Of(tenant_index);
  while (!tenant.ends.empty() && now - tenant.ends.front().ended >= keep_max_) {
    Forget(tenant, tenant.ends.begin());
  }
  key = {.key = keys_.root(scope)};
  std::optional<Ends::iterator> found;
  const auto num_blocks = static_cast<int32_t>(prompt.size()) / kBlockTokens;
  while (key.num_blocks < num_blocks) {
    key.key = keys_.next(key.key, BlockAt(prompt, key.num_blocks++));
    const auto known = tenant.by_key.find(key.key);
    if (known == tenant.by_key.end()) continue;
    const auto rest = prompt.subspan(static_cast<size_t>(key.num_blocks) * kBlockTokens);
    const auto goes_on =
        std::find_if(known->second.begin(), known->second.end(), [&](const Ends::iterator& end) {
          return end->scope == scope && StartsWith(rest, end->tail);
        });
    if (goes_on != known->second.end()) found = *goes_on;
  }
  if (!found) return std::nullopt;
  End end = std::move((*found)->end);
  Forget(tenant, *found);
  return end;
}

void TurnEnds::Add(TenantIndex tenant_index, const ReuseScope& scope,
                   std::span<const TokenId> tokens, int32_t prompt_size, const PromptKey& key,
                   RequestId turn, End&& end, absl::Time now) {
  CHECK(key.num_blocks == prompt_size / kBlockTokens);
  const auto proof_size = std::min<size_t>(tokens.size(), prompt_size + kProofTokens);
  if (proof_size <= static_cast<size_t>(prompt_size) || proof_size < kBlockTokens) return;
  const std::span<const TokenId> proof = tokens.first(proof_size);
  PromptKey at = key;
  while (static_cast<size_t>(at.num_blocks + 1) * kBlockTokens <= proof_size) {
    at.key = keys_.next(at.key, BlockAt(proof, at.num_blocks++));
  }
  const auto tail = proof.subspan(static_cast<size_t>(at.num_blocks) * kBlockTokens);
  Tenant& tenant = Of(tenant_index);
  const auto same = tenant.by_key.find(at.key);
  if (same != tenant.by_key.end() && same->second.size() >= kSameEndsMax) {
    Forget(tenant, same->second.front());
  }
  if (tenant.ends.size() >= kEndsMax) Forget(tenant, tenant.ends.begin());
  const bool is_first = end.session.empty();
  CHECK(is_first == end.first.has_value());
  tenant.ends.push_back({.scope = scope,
                         .key = at.key,
                         .tail = {tail.begin(), tail.end()},
                         .turn = turn,
                         .ended = now,
                         .end = std::move(end)});
  const auto added = std::prev(tenant.ends.end());
  tenant.by_key[at.key].push_back(added);
  if (is_first) first_turns_.emplace(turn, added);
}

void TurnEnds::NameTool(RequestId turn, std::string_view tool) {
  const auto found = first_turns_.find(turn);
  if (found != first_turns_.end()) found->second->end.first->tool = std::string(tool);
}

void TurnEnds::Forget(Tenant& tenant, Ends::iterator end) {
  const auto same = tenant.by_key.find(end->key);
  CHECK(same != tenant.by_key.end());
  std::erase(same->second, end);
  if (same->second.empty()) tenant.by_key.erase(same);
  first_turns_.erase(end->turn);
  tenant.ends.erase(end);
}

void TurnEnds::CheckInvariants() const {
  size_t num_first = 0;
  for (const Tenant& tenant : tenants_) {
    size_t num_ends = 0;
    for (const auto& [key, same] : tenant.by_key) {
      CHECK(!same.empty() && same.size() <= kSameEndsMax);
      for (const Ends::iterator& end : same) CHECK(end->key == key);
      num_ends += same.size();
    }
    CHECK(num_ends == tenant.ends.size() && num_ends <= kEndsMax);
    for (const Known& known : tenant.ends) {
      if (!known.end.session.empty()) continue;
      ++num_first;
      CHECK(first_turns_.contains(known.turn));
    }
  }
  CHECK(num_first == first_turns_.size());
}

}  // namespace holdfast
