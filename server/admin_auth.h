// The keys of the daemon's own administration (`admin.keys`), which are no tenant's: hashed and
// compared as theirs are.
//
// Thread: any.
#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/tenant_config.h"
#include "server/authenticator.h"
#include "server/tenant_auth.h"

namespace holdfast {

class AdminAuth final : public Authenticator {
 public:
  // kInvalidArgument: a hash that is none. Without hashes no key is known.
  static absl::StatusOr<std::unique_ptr<AdminAuth>> Create(const std::vector<KeyHash>& keys) {
    absl::StatusOr<std::unique_ptr<TenantAuth>> auth = TenantAuth::Create(OneOf(keys));
    if (!auth.ok()) return auth.status();
    return std::unique_ptr<AdminAuth>(new AdminAuth(*std::move(auth)));
  }

  absl::Status SetKeys(const std::vector<KeyHash>& keys) { return auth_->SetKeys(OneOf(keys)); }

  absl::StatusOr<Authenticated> Authenticate(std::string_view bearer_key) const override {
    absl::StatusOr<Authenticated> who = auth_->Authenticate(bearer_key);
    if (who.ok()) who->tenant = kAdministrator;
    return who;
  }

 private:
  explicit AdminAuth(std::unique_ptr<TenantAuth> auth) : auth_(std::move(auth)) {}

  static std::vector<TenantConfig> OneOf(const std::vector<KeyHash>& keys) {
    std::vector<TenantConfig> one(1);
    one[0].keys = keys;
    return one;
  }

  const std::unique_ptr<TenantAuth> auth_;
};

}  // namespace holdfast
