#include "server/tenant_auth.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/base/check.h"
#include "config/base/status_macros.h"

namespace holdfast {
namespace {

constexpr size_t kKeyBytesMax = 512;

// All ones if the digests are equal, else zero; the same work either way.
uint32_t EqualMask(const KeyDigest& a, const KeyDigest& b) {
  uint32_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<uint32_t>(a[i] ^ b[i]);
  return ((difference - 1u) & ~difference) >> 31 ? ~0u : 0u;
}

}  // namespace

absl::StatusOr<TenantAuth::StoredKeys> TenantAuth::KeysOf(std::span<const TenantConfig> tenants) {
  StoredKeys keys;
  for (size_t i = 0; i < tenants.size(); ++i) {
    for (const KeyHash& hash : tenants[i].keys) {
      ASSIGN_OR_RETURN(const KeyDigest digest, DigestFromHex(hash.sha256_hex));
      keys.push_back({.digest = digest, .tenant = static_cast<TenantIndex>(i)});
    }
  }
  return keys;
}

absl::StatusOr<std::unique_ptr<TenantAuth>> TenantAuth::Create(
    std::span<const TenantConfig> tenants) {
  ASSIGN_OR_RETURN(StoredKeys keys, KeysOf(tenants));
  return std::unique_ptr<TenantAuth>(new TenantAuth(std::move(keys), tenants.empty()));
}

absl::Status TenantAuth::SetKeys(std::span<const TenantConfig> tenants) {
  CHECK(!keyless_ && !tenants.empty());
  ASSIGN_OR_RETURN(StoredKeys keys, KeysOf(tenants));
  auto made = std::make_shared<const StoredKeys>(std::move(keys));
  absl::MutexLock lock(&mutex_);
  keys_.swap(made);
  return absl::OkStatus();
}

std::shared_ptr<const TenantAuth::StoredKeys> TenantAuth::keys() const {
  absl::MutexLock lock(&mutex_);
  return keys_;
}

absl::StatusOr<Authenticated> TenantAuth::Authenticate(std::string_view bearer_key) const {
  if (keyless_) return Authenticated{};
  if (bearer_key.empty()) {
    return absl::UnauthenticatedError(
        "no API key was given; send it as `Authorization: Bearer KEY`");
  }
  // The length that is refused here is far above any key's and so tells nothing.
  if (bearer_key.size() <= kKeyBytesMax) {
    const KeyDigest digest = HashTenantKey(bearer_key);
    const uint32_t key =
        static_cast<uint32_t>(digest[0]) << 24 | digest[1] << 16 | digest[2] << 8 | digest[3];
    uint32_t found = 0;  // the tenant's index + 1
    const std::shared_ptr<const StoredKeys> known = keys();
    for (const StoredKey& stored : *known) {
      found |=
          EqualMask(stored.digest, digest) & (static_cast<uint32_t>(Number(stored.tenant)) + 1);
    }
    if (found != 0) {
      return Authenticated{.tenant = static_cast<TenantIndex>(found - 1), .key = key};
    }
  }
  return absl::UnauthenticatedError(
      "the API key is not known here; check it, or have a new one made by the operator");
}

}  // namespace holdfast
