// Pins: references that the store holds for a session between its turns.
#include <utility>

#include "config/base/check.h"
#include "kvstore/kv_store.h"

namespace holdfast {

bool KvStore::TryPin(const PinRequest& request, const ReuseScope& scope,
                     std::span<const TokenId> tokens, absl::Time now, std::vector<BlockId>& table,
                     PublishedPrefix& prefix) {
  CHECK(!prefix.restoring);
  const auto num_published = static_cast<size_t>(prefix.num_blocks);
  const size_t num_published_tokens = num_published * kBlockTokens;
  CHECK(num_published <= table.size() && num_published_tokens <= tokens.size());
  Pin pin{.tenant = request.tenant,
          .session = request.session,
          .priority = request.priority,
          .program = request.program,
          .state = request.state,
          .created = now,
          .deadline = request.deadline,
          .scope = scope,
          .last_node = prefix.node};
  std::span<const TokenId> partial = tokens.subspan(num_published_tokens);
  // What could not be published is not kept either.
  if (partial.size() >= kBlockTokens) partial = {};
  const size_t num_kept = num_published + (partial.empty() ? 0 : 1);
  if (num_kept == 0) return false;
  pin.blocks.assign(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(num_kept));
  pin.partial_tokens.assign(partial.begin(), partial.end());
  std::vector<Pin> ended;
  if (!pins_.TryAdd(std::move(pin), ended)) return false;
  // The references of the kept blocks are the pin's now.
  table.erase(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(num_kept));
  Release(now, table, prefix);
  for (Pin& gone : ended) EndPin(std::move(gone), now);
  return true;
}

std::optional<PartialBlock> KvStore::PinnedPartial(TenantIndex tenant,
                                                   const std::string& session) const {
  const Pin* pin = pins_.Find(tenant, session);
  if (pin == nullptr || pin->partial_tokens.empty()) return std::nullopt;
  return PartialBlock{.scope = pin->scope,
                      .parent = pin->last_node,
                      .block = pin->blocks.back(),
                      .tokens = pin->partial_tokens};
}

void KvStore::EndPin(Pin&& pin, absl::Time now) {
  for (auto block = pin.blocks.rbegin(); block != pin.blocks.rend(); ++block) {
    ReleaseBlock(*block, now);
  }
}

bool KvStore::ReleasePin(TenantIndex tenant, const std::string& session, PinEnd why,
                         absl::Time now) {
  const Pin* pin = pins_.Find(tenant, session);
  if (pin == nullptr) return false;
  EndPin(pins_.Remove(pin->id, why), now);
  return true;
}

bool KvStore::ExtendPin(TenantIndex tenant, const std::string& session, const ReuseScope& scope,
                        absl::Time deadline) {
  const Pin* pin = pins_.Find(tenant, session);
  if (pin == nullptr || pin->scope != scope) return false;
  pins_.Extend(pin->id, deadline);
  pins_.SetState(pin->id, PinState::kWanted);
  return true;
}

void KvStore::DecidePin(TenantIndex tenant, const std::string& session, absl::Time deadline,
                        absl::Time now) {
  const Pin* pin = pins_.Find(tenant, session);
  if (pin == nullptr) return;
  if (pin->state != PinState::kPaused && pin->state != PinState::kProvisional) return;
  if (deadline <= now) {
    EndPin(pins_.Remove(pin->id, PinEnd::kDeclined), now);
    return;
  }
  pins_.SetDeadline(pin->id, deadline);
  pins_.SetState(pin->id, PinState::kPaused);
}

int32_t KvStore::ExpirePins(absl::Time now) {
  int32_t num_expired = 0;
  while (const std::optional<PinId> id = pins_.Expired(now)) {
    EndPin(pins_.Remove(*id, PinEnd::kExpired), now);
    ++num_expired;
  }
  return num_expired;
}

bool KvStore::ForceLeastPin(absl::Time now, std::optional<TenantIndex> tenant) {
  const std::optional<PinId> id = pins_.LeastImportant(tenant);
  if (!id) return false;
  EndPin(pins_.Remove(*id, PinEnd::kForced), now);
  return true;
}

}  // namespace holdfast
