// Who may share KV with whom (promise 2): everything that must be equal for two requests to be
// served from the same blocks, folded into 32 bytes that the store takes as opaque.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "scheduler/request.h"

namespace holdfast {

struct ReuseScopeParts {
  // The tenant, or the group in which its operator declared it to share. The two are told apart: a
  // group named as a tenant is not that tenant.
  enum class Owner : uint8_t { kTenant, kSharingGroup } owner = Owner::kTenant;
  std::string_view owner_name;
  std::string_view cache_salt;  // the caller's; narrows, since it is hashed beside the owner
  std::array<uint8_t, 32> model_digest{};
  std::string_view kv_layout;  // names dtype and shape of a block
};

// SHA-256 over a version tag and the parts, each preceded by its length, so that no two different
// lists of parts read alike.  Thread: any.
ReuseScope MakeReuseScope(const ReuseScopeParts& parts);

}  // namespace holdfast
