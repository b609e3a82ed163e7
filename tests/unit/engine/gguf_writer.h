// Writes GGUF bytes for tests, sound or not: what it is told is what it writes.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace holdfast {

inline void AppendBytes(std::string& to, const void* data, size_t size) {
  to.append(static_cast<const char*>(data), size);
}
template <typename T>
void AppendValue(std::string& to, T value) {
  AppendBytes(to, &value, sizeof(value));
}
inline void AppendText(std::string& to, absl::string_view text) {
  AppendValue<uint64_t>(to, text.size());
  to.append(text.data(), text.size());
}

class GgufWriter final {
 public:
  uint32_t version = 3;
  uint64_t alignment = 32;

  GgufWriter& Uint32(absl::string_view key, uint32_t value) {
    Key(key, 4);
    AppendValue(metadata_, value);
    return *this;
  }
  GgufWriter& Float(absl::string_view key, float value) {
    Key(key, 6);
    AppendValue(metadata_, value);
    return *this;
  }
  GgufWriter& Text(absl::string_view key, absl::string_view value) {
    Key(key, 8);
    AppendText(metadata_, value);
    return *this;
  }
  GgufWriter& Texts(absl::string_view key, const std::vector<std::string>& values) {
    Key(key, 9);
    AppendValue<uint32_t>(metadata_, 8);
    AppendValue<uint64_t>(metadata_, values.size());
    for (const std::string& value : values) AppendText(metadata_, value);
    return *this;
  }
  GgufWriter& Integers(absl::string_view key, const std::vector<int32_t>& values) {
    Key(key, 9);
    AppendValue<uint32_t>(metadata_, 5);
    AppendValue<uint64_t>(metadata_, values.size());
    AppendBytes(metadata_, values.data(), values.size() * sizeof(int32_t));
    return *this;
  }
  // An entry of any type with its bytes given.
  GgufWriter& Raw(absl::string_view key, uint32_t type, absl::string_view bytes) {
    Key(key, type);
    metadata_.append(bytes.data(), bytes.size());
    return *this;
  }

  // dims[0] runs fastest. The data follows that of the tensor before, aligned.
  GgufWriter& Tensor(absl::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                     absl::string_view data) {
    TensorAt(name, dims, type, data_.size());
    data_.append(data.data(), data.size());
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  GgufWriter& TensorAt(absl::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                       uint64_t offset) {
    AppendText(directory_, name);
    AppendValue<uint32_t>(directory_, static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) AppendValue(directory_, dim);
    AppendValue(directory_, type);
    AppendValue(directory_, offset);
    ++num_tensors;
    return *this;
  }
  // Zeros of the wanted size, F32.
  GgufWriter& Zeros(absl::string_view name, const std::vector<uint64_t>& dims) {
    uint64_t count = 1;
    for (const uint64_t dim : dims) count *= dim;
    return Tensor(name, dims, 0, std::string(count * 4, '\0'));
  }

  std::string Bytes() const {
    std::string bytes = "GGUF";
    AppendValue(bytes, version);
    AppendValue(bytes, num_tensors);
    AppendValue(bytes, num_metadata);
    bytes += metadata_;
    bytes += directory_;
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
    return bytes + data_;
  }

  uint64_t num_tensors = 0, num_metadata = 0;

 private:
  void Key(absl::string_view key, uint32_t type) {
    AppendText(metadata_, key);
    AppendValue(metadata_, type);
    ++num_metadata;
  }

  std::string metadata_, directory_, data_;
};

inline std::vector<std::byte> ToBytes(absl::string_view text) {
  std::vector<std::byte> bytes(text.size());
  if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

}  // namespace holdfast
