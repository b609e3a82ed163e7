#include "server/reuse_scope.h"

#include <openssl/evp.h>

#include "config/base/check.h"

namespace holdfast {
namespace {

void AppendPart(std::string& out, std::string_view part) {
  const uint64_t size = part.size();
  for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(size >> shift));
  out.append(part);
}

}  // namespace

ReuseScope MakeReuseScope(const ReuseScopeParts& parts) {
  std::string bytes;
  AppendPart(bytes, "holdfast reuse scope 1");
  AppendPart(bytes, parts.owner == ReuseScopeParts::Owner::kTenant ? "tenant" : "group");
  AppendPart(bytes, parts.owner_name);
  AppendPart(bytes, parts.cache_salt);
  AppendPart(bytes,
             {reinterpret_cast<const char*>(parts.model_digest.data()), parts.model_digest.size()});
  AppendPart(bytes, parts.kv_layout);
  ReuseScope scope{};
  unsigned int written = 0;
  // Fails only when OpenSSL has no SHA-256 at all, and then nothing may be shared or served.
  CHECK(EVP_Digest(bytes.data(), bytes.size(), scope.data(), &written, EVP_sha256(), nullptr) == 1);
  CHECK(written == scope.size());
  return scope;
}

}  // namespace holdfast
