#include "server/tenant_key.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "config/base/concat.h"

namespace holdfast {
namespace {

constexpr size_t kRandomBytes = 32;
constexpr char kKeyPrefix[] = "hf-";

uint8_t HexValue(char digit) {
  return static_cast<uint8_t>(absl::ascii_isdigit(static_cast<unsigned char>(digit))
                                  ? digit - '0'
                                  : absl::ascii_tolower(static_cast<unsigned char>(digit)) - 'a' +
                                        10);
}

}  // namespace

KeyDigest HashTenantKey(std::string_view key) {
  KeyDigest digest{};
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

absl::StatusOr<KeyDigest> DigestFromHex(std::string_view hex) {
  KeyDigest digest{};
  if (hex.size() != 2 * digest.size()) {
    return absl::InvalidArgumentError("a key's hash has 64 hex digits");
  }
  for (size_t i = 0; i < digest.size(); ++i) {
    const char high = hex[2 * i], low = hex[2 * i + 1];
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(high)) ||
        !absl::ascii_isxdigit(static_cast<unsigned char>(low))) {
      return absl::InvalidArgumentError("a key's hash has 64 hex digits");
    }
    digest[i] = static_cast<uint8_t>(HexValue(high) << 4 | HexValue(low));
  }
  return digest;
}

absl::StatusOr<NewTenantKey> MakeTenantKey() {
  std::array<unsigned char, kRandomBytes> random;
  if (RAND_bytes(random.data(), static_cast<int>(random.size())) != 1) {
    return absl::UnavailableError("the system's random source gives nothing; try again later");
  }
  const std::string_view bytes(reinterpret_cast<const char*>(random.data()), random.size());
  std::string text;
  absl::WebSafeBase64Escape(AbslView(bytes), &text);  // without padding
  OPENSSL_cleanse(random.data(), random.size());
  NewTenantKey made;
  made.key = Concat(kKeyPrefix, text);
  const KeyDigest digest = HashTenantKey(made.key);
  const std::string_view digest_bytes(reinterpret_cast<const char*>(digest.data()), digest.size());
  made.stored_hash = Concat("sha256:", absl::BytesToHexString(AbslView(digest_bytes)));
  return made;
}

}  // namespace holdfast
