#include "server/kv_tiers.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "kvstore/eviction/cost_aware.h"
#include "kvstore/kv_store.h"

namespace holdfast {
namespace {

absl::Status Named(std::string_view setting, const absl::Status& status) {
  return absl::Status(status.code(), AbslView(Concat(setting, ": ", status.message())));
}

int32_t BlocksOf(const TierAmount& amount, int32_t capacity, size_t block_bytes) {
  const double blocks = amount.bytes
                            ? static_cast<double>(*amount.bytes) / static_cast<double>(block_bytes)
                            : amount.share * capacity;
  return static_cast<int32_t>(std::min<double>(blocks, capacity));
}

TierShare ShareOf(const TenantKvConfig::Tier& config, int32_t capacity, size_t block_bytes) {
  TierShare share;
  if (config.floor) share.floor_blocks = BlocksOf(*config.floor, capacity, block_bytes);
  if (config.ceiling) share.ceiling_blocks = BlocksOf(*config.ceiling, capacity, block_bytes);
  return share;
}

TenantShares SharesOf(const TenantConfig& tenant, const KvTiers& tiers, const EngineInfo& engine,
                      int32_t num_sharing) {
  const size_t block_bytes = engine.kv_layout.block_bytes();
  const int32_t host_blocks = tiers.host ? tiers.host->capacity() : 0;
  const int32_t disk_blocks = tiers.disk ? tiers.disk->capacity() : 0;
  TenantShares shares;
  shares.tag = OwnerTagOf(tenant.name);
  shares.tiers[TierAt(TierKind::kDevice)] =
      ShareOf(tenant.kv.device, engine.num_blocks, block_bytes);
  shares.tiers[TierAt(TierKind::kHost)] = ShareOf(tenant.kv.host, host_blocks, block_bytes);
  shares.tiers[TierAt(TierKind::kDisk)] = ShareOf(tenant.kv.disk, disk_blocks, block_bytes);
  const int32_t pins_of_all = static_cast<int32_t>(engine.num_blocks * tiers.options.pinned_max);
  shares.pinned_blocks_max = tenant.kv.pinned_max
                                 ? BlocksOf(*tenant.kv.pinned_max, engine.num_blocks, block_bytes)
                                 : pins_of_all / std::max(num_sharing, 1);
  const bool is_gone = num_sharing > 0 && tenant.keys.empty();
  if (is_gone) {  // what it still runs keeps nothing that another could have
    for (TierShare& tier : shares.tiers) tier = {.ceiling_blocks = 0};
    shares.pinned_blocks_max = 0;
  }
  return shares;
}

absl::StatusOr<std::string> ReadPassword(const std::string& path) {
  std::string password;
  if (path.empty()) return password;
  if (std::ifstream file(path); !std::getline(file, password) || password.empty()) {
    return absl::InvalidArgumentError(
        Concat("password_path is ", path, ", whose first line is no password"));
  }
  return password;
}

absl::StatusOr<std::unique_ptr<RemoteTier>> OpenRemote(const DaemonConfig::KvSettings::Remote& kv,
                                                       const EngineInfo& engine,
                                                       const Clock& clock) {
  ASSIGN_OR_RETURN(std::string password, ReadPassword(kv.password_path));
  return RemoteTier::Create({.endpoint = kv.url,
                             .username = kv.username,
                             .password = std::move(password),
                             .block_bytes = engine.kv_layout.block_bytes(),
                             .layout = engine.model_digest,
                             .ttl = kv.ttl,
                             .connect_timeout = kv.connect_timeout,
                             .call_timeout = kv.call_timeout},
                            clock);
}

void UseRemote(const DaemonConfig::KvSettings::Remote& kv, const RemoteTier& remote,
               size_t block_bytes, KvStoreOptions& options) {
  // Copies of blocks on their way, each of them twice at most.
  constexpr size_t kSendBytesMax = 64 << 20;
  options.remote_usable = [&remote] { return remote.MayBeAsked(); };
  options.sends_max = static_cast<int32_t>(std::clamp<size_t>(kSendBytesMax / block_bytes, 4, 256));
  // Renewed well before it ends.
  if (kv.ttl > absl::ZeroDuration()) {
    options.remote_refresh = std::min(options.remote_refresh, kv.ttl / 2);
  }
}

// Who is under its floor is never taken from: with floors for more than all, some tenants' blocks
// would find no room for ever.
absl::Status CheckFloors(std::string_view name, const Tier& tier,
                         const std::vector<TenantShares>& tenants) {
  int64_t floors = 0;
  for (const TenantShares& tenant : tenants) {
    floors += tenant.tiers[TierAt(tier.kind())].floor_blocks;
  }
  if (floors <= tier.capacity()) return absl::OkStatus();
  return absl::InvalidArgumentError(AbslView(
      Concat("the tenants' floors on the ", name, " tier are ", floors, " blocks; it has ",
             tier.capacity(), "; lower tenants.kv.", name, ".floor, or give the tier more")));
}

RecomputeCost CostOf(const ModelConfig& model) {
  const double hidden = model.hidden, head_dim = model.head_dim;
  const double attention = hidden * head_dim * (2.0 * model.num_heads + 2.0 * model.num_kv_heads);
  const double mlp = 3.0 * hidden * model.intermediate;
  return RecomputeCost::OfDecoder(model.num_layers * (attention + mlp), model.num_layers,
                                  model.num_heads, head_dim);
}

}  // namespace

OwnerTag OwnerTagOf(const std::string& tenant_name) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(tenant_name.data()), tenant_name.size(),
         digest.data());
  OwnerTag tag;
  std::memcpy(&tag.low, digest.data(), sizeof tag.low);
  std::memcpy(&tag.high, digest.data() + sizeof tag.low, sizeof tag.high);
  return tag;
}

absl::StatusOr<KvTiers> OpenKvTiers(const DaemonConfig& config, const EngineInfo& engine,
                                    const ModelConfig& model, const Clock& clock) {
  KvTiers tiers;
  tiers.options.pinned_max = kPinnedShareMax;
  const size_t block_bytes = engine.kv_layout.block_bytes();
  if (const int64_t host_bytes = config.kv.host_bytes.value_or(0); host_bytes > 0) {
    auto host = HostTier::Create(host_bytes, block_bytes, engine.kv_layout.num_layers);
    if (!host.ok()) return Named("kv.host_bytes", host.status());
    tiers.host = *std::move(host);
  }
  if (!config.kv.disk.path.empty()) {
    auto disk = DiskTier::Open(
        {.directory = config.kv.disk.path,
         .bytes_max = config.kv.disk.bytes.value_or(0),
         .block_bytes = block_bytes,
         .layout = engine.model_digest,
         .sync = config.kv.disk.sync == "segment_end" ? DiskSync::kSegmentEnd : DiskSync::kNone});
    if (!disk.ok()) return Named("kv.disk", disk.status());
    tiers.disk = *std::move(disk);
  }
  if (!config.kv.remote.url.empty()) {
    auto remote = OpenRemote(config.kv.remote, engine, clock);
    if (!remote.ok()) return Named("kv.remote", remote.status());
    tiers.remote = *std::move(remote);
    UseRemote(config.kv.remote, *tiers.remote, block_bytes, tiers.options);
  }
  tiers.options.host = tiers.host.get();
  tiers.options.disk = tiers.disk.get();
  // One longest sequence finds room without anything being dropped uncopied.
  const double longest = BlocksFor(engine.context_tokens);
  tiers.options.low_water = std::max(tiers.options.low_water, longest / engine.num_blocks);
  if (config.kv.eviction == "cost_aware") {
    tiers.options.eviction = [cost = CostOf(model)](TierKind, int32_t capacity) {
      return std::make_unique<CostAwareEviction>(capacity, CostAwareOptions{.cost = cost});
    };
  }
  ASSIGN_OR_RETURN(tiers.options.tenants, SharesOf(config.tenants, tiers, engine));
  if (tiers.options.tenants.empty()) {
    tiers.options.tenants.push_back({.tag = OwnerTagOf("default")});
  }
  return tiers;
}

absl::StatusOr<std::vector<TenantShares>> SharesOf(const std::vector<TenantConfig>& tenants,
                                                   const KvTiers& tiers, const EngineInfo& engine) {
  const auto num_sharing = static_cast<int32_t>(
      std::count_if(tenants.begin(), tenants.end(),
                    [](const TenantConfig& tenant) { return !tenant.keys.empty(); }));
  std::vector<TenantShares> shares;
  for (const TenantConfig& tenant : tenants) {
    shares.push_back(SharesOf(tenant, tiers, engine, num_sharing));
  }
  if (tiers.host) RETURN_IF_ERROR(CheckFloors("host", *tiers.host, shares));
  if (tiers.disk) RETURN_IF_ERROR(CheckFloors("disk", *tiers.disk, shares));
  return shares;
}

}  // namespace holdfast
