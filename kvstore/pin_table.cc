#include "kvstore/pin_table.h"

#include <algorithm>
#include <numeric>

#include "config/base/check.h"

namespace holdfast {

PinTable::PinTable(int32_t blocks_max, const std::vector<int32_t>& tenant_blocks_max)
    : blocks_max_(blocks_max) {
  SetBlocksMax(tenant_blocks_max);
}

void PinTable::SetBlocksMax(const std::vector<int32_t>& tenant_blocks_max) {
  CHECK(tenant_blocks_max.size() >= tenants_.size());
  tenants_.resize(tenant_blocks_max.size());
  for (size_t i = 0; i < tenants_.size(); ++i) {
    tenants_[i].blocks_max = std::min(tenant_blocks_max[i], blocks_max_);
    tenants_[i].kept_blocks = tenants_[i].num_blocks;
  }
}

PinTable::Tenant& PinTable::Of(TenantIndex tenant) {
  const auto index = static_cast<size_t>(static_cast<uint32_t>(Number(tenant)));
  CHECK(index < tenants_.size());
  return tenants_[index];
}

const PinTable::Tenant& PinTable::Of(TenantIndex tenant) const {
  const auto index = static_cast<size_t>(static_cast<uint32_t>(Number(tenant)));
  CHECK(index < tenants_.size());
  return tenants_[index];
}

void PinTable::Count(const Pin& pin) {
  Tenant& tenant = Of(pin.tenant);
  for (BlockId block : pin.blocks) {
    if (pins_of_[block]++ == 0) ++num_blocks_;
    if (tenant.pins_of[block]++ == 0) ++tenant.num_blocks;
  }
}

void PinTable::Uncount(const Pin& pin) {
  Tenant& tenant = Of(pin.tenant);
  const auto drop = [](absl::flat_hash_map<BlockId, int32_t>& counts, BlockId block) -> int32_t {
    const auto found = counts.find(block);
    CHECK(found != counts.end());
    if (--found->second > 0) return 0;
    counts.erase(found);
    return 1;
  };
  for (BlockId block : pin.blocks) {
    num_blocks_ -= drop(pins_of_, block);
    tenant.num_blocks -= drop(tenant.pins_of, block);
  }
}

bool PinTable::Fits(const Tenant& tenant) const {
  return num_blocks_ <= blocks_max_ && tenant.num_blocks <= tenant.blocks_max;
}

std::optional<PinId> PinTable::TryAdd(Pin&& pin, std::vector<Pin>& ended) {
  CHECK(!pin.blocks.empty());
  Tenant& tenant = Of(pin.tenant);
  std::vector<std::pair<PinId, PinEnd>> going;
  // Counts are tried first; only when all fits is anything ended.
  Count(pin);
  const auto earlier = tenant.sessions.find(pin.session);
  if (earlier != tenant.sessions.end()) {
    going.emplace_back(earlier->second, PinEnd::kReplaced);
    Uncount(pins_.at(earlier->second));
  }
  const auto pins_left = [&] { return num_pins() - static_cast<int32_t>(going.size()); };
  const auto full = [&] { return !Fits(tenant) || pins_left() + 1 > blocks_max_; };
  const bool displaces = pin.state != PinState::kProvisional;
  for (auto next = by_rank_.begin(); displaces && full() && next != by_rank_.end(); ++next) {
    const Pin& candidate = pins_.at(std::get<PinId>(*next));
    const bool matters_more = std::pair(-int64_t{candidate.priority}, candidate.deadline) >
                              std::pair(-int64_t{pin.priority}, pin.deadline);
    if (matters_more) break;
    if (candidate.tenant != pin.tenant || candidate.session == pin.session) continue;
    going.emplace_back(candidate.id, PinEnd::kDisplaced);
    Uncount(candidate);
  }
  if (full()) {
    for (const auto& [id, why] : going) Count(pins_.at(id));
    Uncount(pin);
    return std::nullopt;
  }
  for (const auto& [id, why] : going) ended.push_back(Extract(id, why));
  pin.id = PinId{next_id_++};
  tenant.sessions.emplace(pin.session, pin.id);
  by_deadline_.emplace(pin.deadline, pin.id);
  by_rank_.insert(RankOf(pin));
  ++num_in_state_[static_cast<size_t>(pin.state)];
  const PinId id = pin.id;
  pins_.emplace(id, std::move(pin));
  return id;
}

const Pin* PinTable::Find(TenantIndex tenant, const std::string& session) const {
  const auto& sessions = Of(tenant).sessions;
  const auto found = sessions.find(session);
  return found == sessions.end() ? nullptr : &pins_.at(found->second);
}

std::optional<PinId> PinTable::Expired(absl::Time now) const {
  if (by_deadline_.empty() || by_deadline_.begin()->first > now) return std::nullopt;
  return by_deadline_.begin()->second;
}

std::optional<PinId> PinTable::LeastImportant(std::optional<TenantIndex> tenant) const {
  for (const Rank& rank : by_rank_) {
    const PinId id = std::get<PinId>(rank);
    if (!tenant || pins_.at(id).tenant == *tenant) return id;
  }
  return std::nullopt;
}

void PinTable::Extend(PinId id, absl::Time deadline) {
  if (deadline > pins_.at(id).deadline) SetDeadline(id, deadline);
}

void PinTable::SetDeadline(PinId id, absl::Time deadline) {
  Pin& pin = pins_.at(id);
  by_deadline_.erase({pin.deadline, id});
  by_rank_.erase(RankOf(pin));
  pin.deadline = deadline;
  by_deadline_.emplace(deadline, id);
  by_rank_.insert(RankOf(pin));
}

void PinTable::SetState(PinId id, PinState state) {
  Pin& pin = pins_.at(id);
  --num_in_state_[static_cast<size_t>(pin.state)];
  pin.state = state;
  ++num_in_state_[static_cast<size_t>(pin.state)];
}

Pin PinTable::Extract(PinId id, PinEnd why) {
  const auto found = pins_.find(id);
  CHECK(found != pins_.end());
  Pin pin = std::move(found->second);
  pins_.erase(found);
  by_deadline_.erase({pin.deadline, id});
  by_rank_.erase(RankOf(pin));
  Of(pin.tenant).sessions.erase(pin.session);
  ++num_ended_[static_cast<size_t>(why)];
  --num_in_state_[static_cast<size_t>(pin.state)];
  return pin;
}

Pin PinTable::Remove(PinId id, PinEnd why) {
  const auto found = pins_.find(id);
  CHECK(found != pins_.end());
  Uncount(found->second);
  return Extract(id, why);
}

void PinTable::ForEach(const std::function<void(const Pin&)>& visit) const {
  for (const auto& [deadline, id] : by_deadline_) visit(pins_.at(id));
}

void PinTable::CheckInvariants() const {
  std::set<BlockId> blocks;
  std::vector<std::set<BlockId>> tenant_blocks(tenants_.size());
  std::array<int32_t, kNumPinStates> in_state{};
  for (const auto& [id, pin] : pins_) {
    ++in_state[static_cast<size_t>(pin.state)];
    CHECK(pin.id == id && Find(pin.tenant, pin.session) == &pin);
    blocks.insert(pin.blocks.begin(), pin.blocks.end());
    tenant_blocks[static_cast<size_t>(Number(pin.tenant))].insert(pin.blocks.begin(),
                                                                  pin.blocks.end());
  }
  CHECK(num_blocks_ == static_cast<int32_t>(blocks.size()) && num_blocks_ <= blocks_max_);
  for (size_t i = 0; i < tenants_.size(); ++i) {
    CHECK(tenants_[i].num_blocks == static_cast<int32_t>(tenant_blocks[i].size()));
    CHECK(tenants_[i].num_blocks <= std::max(tenants_[i].blocks_max, tenants_[i].kept_blocks));
  }
  CHECK(in_state == num_in_state_);
  CHECK(by_deadline_.size() == pins_.size() && by_rank_.size() == pins_.size());
  // Each that was ever made is there, or has ended for one reason.
  CHECK(next_id_ - 1 == std::accumulate(num_ended_.begin(), num_ended_.end(), pins_.size()));
}

}  // namespace holdfast
