// One act of administration, for the audit log.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace holdfast {

struct AdminAct {
  std::string who;   // a tenant, "administrator", or "SIGHUP"
  uint32_t key = 0;  // theirs (authenticator.h); 0: came without
  std::string act;   // "drop_pin", "drop_pins", "reload"
  std::string on;    // the session or tenant that it was done to; empty: all
  absl::Status result;
};

}  // namespace holdfast
