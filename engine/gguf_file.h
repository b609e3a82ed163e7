// Reads the structure of a GGUF file: metadata and tensor directory. A view: it keeps string views
// and pointers into the bytes it was given, and copies none of the data.
//
//   "GGUF" | version | tensor count | metadata count
//   metadata: key, type, value          ...
//   directory: name, dims, type, offset ...
//   padding to general.alignment | tensor data
//
// Nothing in the bytes is believed: each count, length and offset is checked against what is left
// of the file before it is used, and no allocation is larger than a small multiple of the bytes
// read so far. Refused: versions other than 2 and 3, big-endian files, keys or tensors that occur
// twice, arrays of arrays, unknown value or tensor types, tensors that are misaligned, overlap or
// end beyond the file. Errors name file and field. Any bytes are safe input
// (tests/fuzz/fuzz_gguf.cc).
//
// Source: the GGUF specification, ggml docs/gguf.md (facts only).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/dtype.h"

namespace holdfast {

inline constexpr int kGgufDimsMax = 4;
inline constexpr size_t kGgufNameBytesMax =
    256;  // of a key or tensor; the format says 64 for tensors

enum class GgufType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};

// Elements as they lie in the file; their lengths have been checked.
struct GgufArray {
  GgufType element_type = GgufType::kUint8;
  uint64_t count = 0;
  std::span<const std::byte> bytes;
};

using GgufValue = std::variant<uint64_t, int64_t, double, bool, absl::string_view, GgufArray>;

struct GgufTensor {
  absl::string_view name;
  TensorType type = TensorType::kF32;
  int num_dims = 0;
  std::array<int32_t, kGgufDimsMax> dims{1, 1, 1, 1};  // dims[0] runs fastest: a row's length
  std::span<const std::byte> data;
};

class GgufCursor;

class GgufFile final {
 public:
  // `bytes` must outlive the result. `name` is for error messages.
  static absl::StatusOr<GgufFile> Parse(std::span<const std::byte> bytes, std::string name);

  const std::string& name() const { return name_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* FindTensor(absl::string_view tensor_name) const;  // null: none
  // Everything before the tensor data: header, metadata, directory.
  std::span<const std::byte> head() const { return head_; }

  // Typed look-ups. nullopt: there is no such key. Error: it holds something else. Integers and
  // numbers are taken from any numeric type that holds the value exactly; a float is no integer.
  bool Has(absl::string_view key) const { return metadata_.contains(key); }
  absl::StatusOr<std::optional<int64_t>> Integer(absl::string_view key) const;
  absl::StatusOr<std::optional<double>> Number(absl::string_view key) const;
  absl::StatusOr<std::optional<bool>> Flag(absl::string_view key) const;
  absl::StatusOr<std::optional<absl::string_view>> Text(absl::string_view key) const;
  // Empty if there is no such key.
  absl::StatusOr<std::vector<std::string>> Strings(absl::string_view key) const;
  absl::StatusOr<std::vector<int32_t>> Integers(absl::string_view key) const;  // INT32 or UINT32
  absl::StatusOr<std::vector<float>> Floats(absl::string_view key) const;      // FLOAT32

 private:
  explicit GgufFile(std::string name) : name_(std::move(name)) {}

  absl::Status ReadMetadata(GgufCursor& cursor, uint64_t count);
  absl::Status ReadDirectory(GgufCursor& cursor, uint64_t count, std::vector<uint64_t>& offsets);
  absl::Status PlaceTensors(std::span<const std::byte> bytes, size_t directory_end,
                            const std::vector<uint64_t>& offsets);
  const GgufValue* Find(absl::string_view key) const;
  absl::Status WrongType(absl::string_view key, absl::string_view wanted) const;
  absl::StatusOr<const GgufArray*> ArrayOf(absl::string_view key) const;

  std::string name_;
  absl::flat_hash_map<absl::string_view, GgufValue> metadata_;
  std::vector<GgufTensor> tensors_;
  absl::flat_hash_map<absl::string_view, size_t> tensor_index_;
  std::span<const std::byte> head_;
};

}  // namespace holdfast
