#include "engine/safetensors_file.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "config/base/status_macros.h"
#include "engine/json_document.h"
#include "engine/load_error.h"

namespace holdfast {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr absl::string_view kMetadataKey = "__metadata__";

struct Dtype {
  absl::string_view name;
  uint64_t bytes;
  std::optional<TensorType> type;
};
constexpr Dtype kDtypes[] = {
    {"F32", 4, TensorType::kF32}, {"F16", 2, TensorType::kF16}, {"BF16", 2, TensorType::kBf16},
    {"F64", 8, std::nullopt},     {"I64", 8, std::nullopt},     {"U64", 8, std::nullopt},
    {"I32", 4, std::nullopt},     {"U32", 4, std::nullopt},     {"I16", 2, std::nullopt},
    {"U16", 2, std::nullopt},     {"I8", 1, std::nullopt},      {"U8", 1, std::nullopt},
    {"BOOL", 1, std::nullopt},    {"F8_E5M2", 1, std::nullopt}, {"F8_E4M3", 1, std::nullopt},
};

bool IsUnsigned(const nlohmann::json& value, uint64_t max) {
  return value.is_number_unsigned() && value.get<uint64_t>() <= max;
}

absl::StatusOr<SafetensorsTensor> ReadTensor(const std::string& file, const std::string& name,
                                             const nlohmann::json& entry,
                                             std::span<const std::byte> data) {
  const std::string field = absl::StrCat("tensor ", Quoted(name));
  if (!entry.is_object()) return Malformed(file, field, ": wanted an object");
  const auto dtype_text = entry.find("dtype");
  const auto shape = entry.find("shape");
  const auto offsets = entry.find("data_offsets");
  if (dtype_text == entry.end() || !dtype_text->is_string()) {
    return Malformed(file, field, " dtype: wanted a string");
  }
  SafetensorsTensor tensor{.name = name, .dtype = dtype_text->get_ref<const std::string&>()};
  const auto* dtype = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                   [&](const Dtype& d) { return d.name == tensor.dtype; });
  if (dtype == std::end(kDtypes)) {
    return Unsupported(file, field, " dtype: wanted one that the format names, found ",
                       Quoted(tensor.dtype));
  }
  tensor.type = dtype->type;
  if (shape == entry.end() || !shape->is_array() || shape->size() > kSafetensorsDimsMax) {
    return Malformed(file, field, " shape: wanted an array of at most ", kSafetensorsDimsMax,
                     " integers");
  }
  uint64_t wanted_bytes = dtype->bytes;
  for (const nlohmann::json& dim : *shape) {
    if (!IsUnsigned(dim, std::numeric_limits<int32_t>::max())) {
      return Malformed(file, field, " shape: wanted integers from 0 to 2147483647");
    }
    tensor.shape.push_back(static_cast<int64_t>(dim.get<uint64_t>()));
    if (__builtin_mul_overflow(wanted_bytes, dim.get<uint64_t>(), &wanted_bytes)) {
      return Malformed(file, field, " shape: the product overflows");
    }
  }
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 ||
      !IsUnsigned((*offsets)[0], data.size()) || !IsUnsigned((*offsets)[1], data.size())) {
    return Malformed(file, field, " data_offsets: wanted two integers from 0 to ", data.size(),
                     ", the bytes of data in the file; fetch the file again");
  }
  const uint64_t begin = (*offsets)[0].get<uint64_t>(), end = (*offsets)[1].get<uint64_t>();
  if (end < begin || end - begin != wanted_bytes) {
    return Malformed(file, field, " data_offsets: wanted ", wanted_bytes,
                     " bytes for its shape and dtype, found ", begin, " to ", end);
  }
  tensor.data = data.subspan(begin, wanted_bytes);
  return tensor;
}

}  // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::Parse(std::span<const std::byte> bytes,
                                                       const std::string& name) {
  uint64_t header_bytes;
  if (bytes.size() < kLengthBytes) {
    return Malformed(name, "header length: wanted 8 bytes, found ", bytes.size(),
                     "; fetch the file again");
  }
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > bytes.size() - kLengthBytes || header_bytes > kSafetensorsHeaderBytesMax) {
    return Malformed(name, "header length: wanted at most ",
                     std::min<uint64_t>(bytes.size() - kLengthBytes, kSafetensorsHeaderBytesMax),
                     ", found ", header_bytes, "; this is no safetensors file, or is cut short");
  }
  const std::span<const std::byte> text = bytes.subspan(kLengthBytes, header_bytes);
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + header_bytes);
  ASSIGN_OR_RETURN(
      const JsonDocument header,
      JsonDocument::Parse({reinterpret_cast<const char*>(text.data()), text.size()}, name));
  SafetensorsFile file;
  file.head = bytes.first(kLengthBytes + header_bytes);
  for (const auto& item : header.top().items()) {
    if (item.key() == kMetadataKey) continue;
    ASSIGN_OR_RETURN(SafetensorsTensor tensor, ReadTensor(name, item.key(), item.value(), data));
    file.tensors.push_back(std::move(tensor));
  }
  std::sort(file.tensors.begin(), file.tensors.end(),
            [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
              if (a.data.data() != b.data.data()) return a.data.data() < b.data.data();
              return a.data.size() < b.data.size();  // empty ones first
            });
  const std::byte* expected = data.data();
  for (const SafetensorsTensor& tensor : file.tensors) {
    if (tensor.data.data() != expected) {
      return Malformed(name, "tensor ", Quoted(tensor.name), " data_offsets: wanted to begin at ",
                       expected - data.data(), " (no gap, no overlap), found ",
                       tensor.data.data() - data.data());
    }
    expected = tensor.data.data() + tensor.data.size();
  }
  if (expected != data.data() + data.size()) {
    return Malformed(name, "data: wanted ", expected - data.data(), " bytes, found ", data.size(),
                     "; the file was cut or added to");
  }
  return file;
}

}  // namespace holdfast
