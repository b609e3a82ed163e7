#include "server/state_id.h"

#include <openssl/rand.h>

#include "absl/strings/escaping.h"
#include "config/base/check.h"
#include "config/base/concat.h"

namespace holdfast {

std::string MakeStateId(std::string_view prefix) {
  unsigned char bytes[16];
  CHECK(RAND_bytes(bytes, sizeof bytes) == 1);
  return Concat(prefix, absl::BytesToHexString(
                            absl::string_view(reinterpret_cast<const char*>(bytes), sizeof bytes)));
}

}  // namespace holdfast
