#include "engine/model_digest.h"

#include <openssl/evp.h>

#include <cstring>

#include "config/base/check.h"

namespace holdfast {
namespace {
constexpr size_t kSampleBytes = 256;
}  // namespace

struct ModelDigest::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

ModelDigest::ModelDigest() : context_(std::make_unique<Context>()) {
  CHECK(context_->evp != nullptr);
  CHECK(EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr) == 1);
  AddNumber("holdfast model digest", 1);  // the number: version of what goes in
}

ModelDigest::~ModelDigest() = default;

void ModelDigest::AddBytes(absl::string_view label, std::span<const std::byte> bytes) {
  const uint64_t sizes[2] = {label.size(), bytes.size()};
  CHECK(EVP_DigestUpdate(context_->evp, sizes, sizeof(sizes)) == 1);
  CHECK(EVP_DigestUpdate(context_->evp, label.data(), label.size()) == 1);
  CHECK(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) == 1);
}

void ModelDigest::AddNumber(absl::string_view label, uint64_t number) {
  AddBytes(label, std::as_bytes(std::span(&number, 1)));
}

void ModelDigest::AddSamples(absl::string_view label, std::span<const std::byte> data) {
  AddNumber("bytes", data.size());
  if (data.size() <= 3 * kSampleBytes) return AddBytes(label, data);
  AddBytes(label, data.first(kSampleBytes));
  AddBytes(label, data.subspan(data.size() / 2 - kSampleBytes / 2, kSampleBytes));
  AddBytes(label, data.last(kSampleBytes));
}

std::array<uint8_t, 32> ModelDigest::Finish() {
  std::array<uint8_t, 32> digest;
  unsigned int length = 0;
  CHECK(EVP_DigestFinal_ex(context_->evp, digest.data(), &length) == 1);
  CHECK(length == digest.size());
  return digest;
}

}  // namespace holdfast
