// The 32 bytes that name a model: SHA-256, fed with labelled, length-prefixed pieces so that no two
// different lists of pieces feed the same bytes.
//
// What goes in, for each file of the model: its size, its structure in full (GGUF: header, metadata
// and tensor directory; Hugging Face: config.json and each safetensors header), and of every tensor
// its type, shape and three samples of its data (the first, middle and last 256 bytes). So any
// other configuration, vocabulary, tensor layout or training run gives another digest, while a file
// of any size is named in milliseconds. It does not detect a deliberate change of single weights
// between the samples: it tells models apart, it does not authenticate them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/strings/string_view.h"

namespace holdfast {

class ModelDigest final {
 public:
  ModelDigest();
  ~ModelDigest();
  ModelDigest(const ModelDigest&) = delete;
  ModelDigest& operator=(const ModelDigest&) = delete;

  void AddBytes(absl::string_view label, std::span<const std::byte> bytes);
  void AddNumber(absl::string_view label, uint64_t number);
  void AddSamples(absl::string_view label, std::span<const std::byte> data);
  std::array<uint8_t, 32> Finish();  // once

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace holdfast
