// Reads the structure of a safetensors file. A view: pointers into the bytes it was given.
//
//   u64 length of the header | header, JSON: name -> {dtype, shape, data_offsets} | data
//
// Nothing in the bytes is believed: the header's length is checked against the file and a bound,
// the JSON is depth-bounded, and each tensor's bytes must be what its shape and dtype say. As the
// format demands, the tensors cover the data without gap or overlap. Any bytes are safe input
// (tests/fuzz/fuzz_safetensors.cc). Errors name file and tensor.
//
// Source: the format's description in the safetensors README (facts only).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace holdfast {

// The format allows 100 MB; a thousand tensors take 0.1 MB. The bound limits what JSON may unfold
// to in memory (some 20 times its text).
inline constexpr uint64_t kSafetensorsHeaderBytesMax = 16 << 20;
inline constexpr size_t kSafetensorsDimsMax = 8;

struct SafetensorsTensor {
  std::string name;
  std::string dtype;               // as written
  std::optional<TensorType> type;  // nullopt: a dtype of the format that is not for weights here
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

struct SafetensorsFile {
  std::vector<SafetensorsTensor> tensors;  // in the order of their data
  std::span<const std::byte> head;         // length and JSON

  // `bytes` must outlive the result. `name` is for error messages.
  static absl::StatusOr<SafetensorsFile> Parse(std::span<const std::byte> bytes,
                                               const std::string& name);
};

}  // namespace holdfast
