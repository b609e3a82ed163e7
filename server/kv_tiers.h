// The lower tiers of the KV store and the tenants' shares of each, as the configuration wants them.
// Knows the engine's sizes, hence apart from the rest of the server.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "config/base/clock.h"
#include "config/daemon_config.h"
#include "engine/engine.h"
#include "engine/model_config.h"
#include "kvstore/disk_tier.h"
#include "kvstore/host_tier.h"
#include "kvstore/kv_store_options.h"
#include "kvstore/remote_tier.h"

namespace holdfast {

// Share of the device that all pins may keep. With half of it agents took a tenth longer where few
// fit: paused programs' KV went, and their next turns computed it again (docs/agents.md).
inline constexpr double kPinnedShareMax = 0.8;

struct KvTiers {
  std::unique_ptr<HostTier> host;  // nullptr: there is none
  std::unique_ptr<DiskTier> disk;
  std::unique_ptr<RemoteTier> remote;
  KvStoreOptions options;  // tiers, eviction and shares, for SchedulerOptions::kv
};

// kInvalidArgument, kFailedPrecondition (the directory is another daemon's), kResourceExhausted:
// the message names the setting. A remote server that is away is no error: it may come later. The
// clock outlives the tiers.
absl::StatusOr<KvTiers> OpenKvTiers(const DaemonConfig& config, const EngineInfo& engine,
                                    const ModelConfig& model, const Clock& clock);

// What the tenants, by TenantIndex, may keep of the tiers and of the engine's device; those without
// keys are gone, and keep no part. kInvalidArgument: they want more of a tier than there is.
absl::StatusOr<std::vector<TenantShares>> SharesOf(const std::vector<TenantConfig>& tenants,
                                                   const KvTiers& tiers, const EngineInfo& engine);

// Names a tenant in what outlives the process: the first half of SHA-256 over its name.
OwnerTag OwnerTagOf(const std::string& tenant_name);

}  // namespace holdfast
