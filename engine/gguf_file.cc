#include "engine/gguf_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>

#include "config/base/status_macros.h"
#include "engine/load_error.h"

namespace holdfast {

static_assert(std::endian::native == std::endian::little, "weights are used as they lie");

namespace {

constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kAlignmentMax = 1 << 20;
// The smallest metadata entry (key length, type, one byte) and directory entry (name length, number
// of dims, one dim, type, offset): a count above what would fit is refused before anything is kept.
constexpr uint64_t kMetadataEntryBytesMin = 8 + 4 + 1;
constexpr uint64_t kDirectoryEntryBytesMin = 8 + 4 + 8 + 4 + 8;

// Type numbers of the tensor directory that this engine computes with (ggml's enum ggml_type).
std::optional<TensorType> TensorTypeOf(uint32_t number) {
  switch (number) {
    case 0:
      return TensorType::kF32;
    case 1:
      return TensorType::kF16;
    case 2:
      return TensorType::kQ4_0;
    case 3:
      return TensorType::kQ4_1;
    case 6:
      return TensorType::kQ5_0;
    case 7:
      return TensorType::kQ5_1;
    case 8:
      return TensorType::kQ8_0;
    case 12:
      return TensorType::kQ4_K;
    case 13:
      return TensorType::kQ5_K;
    case 14:
      return TensorType::kQ6_K;
    case 30:
      return TensorType::kBf16;
    default:
      return std::nullopt;
  }
}

// Bytes of one element of a fixed-size type; 0 for strings, arrays and what the format lacks.
size_t ScalarBytes(uint32_t type) {
  switch (static_cast<GgufType>(type)) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

template <typename T>
T LoadAs(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

}  // namespace

// A place in the bytes that never moves past their end. A failed read moves nothing.
class GgufCursor final {
 public:
  explicit GgufCursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t at() const { return at_; }
  size_t left() const { return bytes_.size() - at_; }

  template <typename T>
  [[nodiscard]] bool Read(T& value) {
    if (left() < sizeof(T)) return false;
    value = LoadAs<T>(bytes_.data() + at_);
    at_ += sizeof(T);
    return true;
  }
  [[nodiscard]] bool Take(uint64_t count, std::span<const std::byte>& taken) {
    if (left() < count) return false;
    taken = bytes_.subspan(at_, static_cast<size_t>(count));
    at_ += static_cast<size_t>(count);
    return true;
  }
  [[nodiscard]] bool ReadString(absl::string_view& text) {
    uint64_t length;
    std::span<const std::byte> taken;
    if (left() < sizeof(length)) return false;
    length = LoadAs<uint64_t>(bytes_.data() + at_);
    if (left() - sizeof(length) < length) return false;
    at_ += sizeof(length);
    if (!Take(length, taken)) return false;
    text = {reinterpret_cast<const char*>(taken.data()), taken.size()};
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

namespace {

absl::Status CutShort(absl::string_view file, absl::string_view what, const GgufCursor& cursor) {
  return Malformed(file, what, " at byte ", cursor.at(), " runs past the end of the file (",
                   cursor.left(), " bytes left); fetch the file again");
}

absl::StatusOr<GgufArray> ReadArray(absl::string_view file, absl::string_view field,
                                    GgufCursor& cursor) {
  uint32_t type;
  GgufArray array;
  if (!cursor.Read(type) || !cursor.Read(array.count)) return CutShort(file, field, cursor);
  array.element_type = static_cast<GgufType>(type);
  if (array.element_type == GgufType::kString) {
    if (array.count > cursor.left() / sizeof(uint64_t)) {
      return Malformed(file, field, " claims ", array.count, " strings, found ", cursor.left(),
                       " bytes left in the file; fetch the file again");
    }
    GgufCursor begin = cursor;
    absl::string_view element;
    for (uint64_t i = 0; i < array.count; ++i) {
      if (!cursor.ReadString(element)) return CutShort(file, field, cursor);
    }
    const size_t length = cursor.at() - begin.at();
    (void)begin.Take(length, array.bytes);
    return array;
  }
  const size_t element_bytes = ScalarBytes(type);
  if (element_bytes == 0) {
    return Malformed(file, field, " is an array of type ", type,
                     "; wanted numbers, booleans or strings");
  }
  if (array.count > cursor.left() / element_bytes ||
      !cursor.Take(array.count * element_bytes, array.bytes)) {
    return Malformed(file, field, " claims ", array.count, " elements of ", element_bytes,
                     " bytes, found ", cursor.left(),
                     " bytes left in the file; fetch the file again");
  }
  return array;
}

template <typename Stored, typename Kept>
bool ReadScalar(GgufCursor& cursor, GgufValue& value) {
  Stored stored;
  if (!cursor.Read(stored)) return false;
  value = static_cast<Kept>(stored);
  return true;
}

absl::StatusOr<GgufValue> ReadValue(absl::string_view file, absl::string_view field, uint32_t type,
                                    GgufCursor& cursor) {
  GgufValue value;
  bool complete = false;
  switch (static_cast<GgufType>(type)) {
    case GgufType::kUint8:
      complete = ReadScalar<uint8_t, uint64_t>(cursor, value);
      break;
    case GgufType::kInt8:
      complete = ReadScalar<int8_t, int64_t>(cursor, value);
      break;
    case GgufType::kUint16:
      complete = ReadScalar<uint16_t, uint64_t>(cursor, value);
      break;
    case GgufType::kInt16:
      complete = ReadScalar<int16_t, int64_t>(cursor, value);
      break;
    case GgufType::kUint32:
      complete = ReadScalar<uint32_t, uint64_t>(cursor, value);
      break;
    case GgufType::kInt32:
      complete = ReadScalar<int32_t, int64_t>(cursor, value);
      break;
    case GgufType::kUint64:
      complete = ReadScalar<uint64_t, uint64_t>(cursor, value);
      break;
    case GgufType::kInt64:
      complete = ReadScalar<int64_t, int64_t>(cursor, value);
      break;
    case GgufType::kFloat32:
      complete = ReadScalar<float, double>(cursor, value);
      break;
    case GgufType::kFloat64:
      complete = ReadScalar<double, double>(cursor, value);
      break;
    case GgufType::kBool: {
      uint8_t stored;
      complete = cursor.Read(stored);
      if (complete && stored > 1) {
        return Malformed(file, field, " is a boolean with the byte ", int{stored},
                         "; wanted 0 or 1");
      }
      value = complete && stored == 1;
      break;
    }
    case GgufType::kString: {
      absl::string_view text;
      complete = cursor.ReadString(text);
      value = text;
      break;
    }
    case GgufType::kArray: {
      ASSIGN_OR_RETURN(value, ReadArray(file, field, cursor));
      return value;
    }
    default:
      return Malformed(file, field, " has the value type ", type,
                       "; wanted one of the 13 types of GGUF");
  }
  if (!complete) return CutShort(file, field, cursor);
  return value;
}

}  // namespace

absl::StatusOr<GgufFile> GgufFile::Parse(std::span<const std::byte> bytes, std::string name) {
  GgufFile file(std::move(name));
  GgufCursor cursor(bytes);
  std::span<const std::byte> magic;
  if (!cursor.Take(4, magic) || std::memcmp(magic.data(), "GGUF", 4) != 0) {
    return Malformed(file.name_, "wanted the bytes \"GGUF\" at the start; this is no GGUF file");
  }
  uint32_t version;
  uint64_t num_tensors, num_metadata;
  if (!cursor.Read(version)) return CutShort(file.name_, "version", cursor);
  if (version != 2 && version != 3) {
    const bool swapped = __builtin_bswap32(version) == 2 || __builtin_bswap32(version) == 3;
    return Unsupported(file.name_, "version: wanted 2 or 3, found ",
                       swapped ? "a big-endian file" : absl::StrCat(version),
                       "; convert the model again with a current converter");
  }
  if (!cursor.Read(num_tensors) || !cursor.Read(num_metadata)) {
    return CutShort(file.name_, "header", cursor);
  }
  if (num_metadata > cursor.left() / kMetadataEntryBytesMin) {
    return Malformed(file.name_, "metadata count: ", num_metadata, " entries do not fit into the ",
                     cursor.left(), " bytes that are left");
  }
  RETURN_IF_ERROR(file.ReadMetadata(cursor, num_metadata));
  if (num_tensors > cursor.left() / kDirectoryEntryBytesMin) {
    return Malformed(file.name_, "tensor count: ", num_tensors, " entries do not fit into the ",
                     cursor.left(), " bytes that are left");
  }
  std::vector<uint64_t> offsets;
  RETURN_IF_ERROR(file.ReadDirectory(cursor, num_tensors, offsets));
  RETURN_IF_ERROR(file.PlaceTensors(bytes, cursor.at(), offsets));
  return file;
}

absl::Status GgufFile::ReadMetadata(GgufCursor& cursor, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    absl::string_view key;
    uint32_t type;
    if (!cursor.ReadString(key)) {
      return CutShort(name_, absl::StrCat("key of metadata entry ", i), cursor);
    }
    if (key.empty() || key.size() > kGgufNameBytesMax) {
      return Malformed(name_, "key of metadata entry ", i, " has ", key.size(),
                       " bytes; wanted 1 to ", kGgufNameBytesMax);
    }
    const std::string field = absl::StrCat("metadata ", Quoted(key));
    if (!cursor.Read(type)) return CutShort(name_, field, cursor);
    ASSIGN_OR_RETURN(GgufValue value, ReadValue(name_, field, type, cursor));
    if (!metadata_.emplace(key, value).second) return Malformed(name_, field, " occurs twice");
  }
  return absl::OkStatus();
}

absl::Status GgufFile::ReadDirectory(GgufCursor& cursor, uint64_t count,
                                     std::vector<uint64_t>& offsets) {
  for (uint64_t i = 0; i < count; ++i) {
    GgufTensor tensor;
    if (!cursor.ReadString(tensor.name)) {
      return CutShort(name_, absl::StrCat("name of tensor ", i), cursor);
    }
    if (tensor.name.empty() || tensor.name.size() > kGgufNameBytesMax) {
      return Malformed(name_, "name of tensor ", i, " has ", tensor.name.size(),
                       " bytes; wanted 1 to ", kGgufNameBytesMax);
    }
    const std::string field = absl::StrCat("tensor ", Quoted(tensor.name));
    uint32_t num_dims, type;
    uint64_t offset;
    if (!cursor.Read(num_dims)) return CutShort(name_, field, cursor);
    if (num_dims < 1 || num_dims > kGgufDimsMax) {
      return Malformed(name_, field, " has ", num_dims, " dimensions; wanted 1 to ", kGgufDimsMax);
    }
    tensor.num_dims = static_cast<int>(num_dims);
    for (uint32_t d = 0; d < num_dims; ++d) {
      uint64_t dim;
      if (!cursor.Read(dim)) return CutShort(name_, field, cursor);
      if (dim < 1 || dim > uint64_t{std::numeric_limits<int32_t>::max()}) {
        return Malformed(name_, field, " has the dimension ", dim, "; wanted 1 to 2147483647");
      }
      tensor.dims[d] = static_cast<int32_t>(dim);
    }
    if (!cursor.Read(type) || !cursor.Read(offset)) return CutShort(name_, field, cursor);
    const std::optional<TensorType> known = TensorTypeOf(type);
    if (!known) {
      return Unsupported(name_, field, " has the tensor type ", type,
                         "; wanted F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or "
                         "Q6_K; quantise the model to one of them");
    }
    tensor.type = *known;
    if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) {
      return Malformed(name_, field, " occurs twice");
    }
    tensors_.push_back(tensor);
    offsets.push_back(offset);
  }
  return absl::OkStatus();
}

absl::Status GgufFile::PlaceTensors(std::span<const std::byte> bytes, size_t directory_end,
                                    const std::vector<uint64_t>& offsets) {
  ASSIGN_OR_RETURN(const std::optional<int64_t> stated, Integer("general.alignment"));
  const int64_t alignment = stated.value_or(kDefaultAlignment);
  if (alignment < 8 || alignment > int64_t{kAlignmentMax} ||
      !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    return Malformed(name_, "metadata \"general.alignment\" is ", alignment,
                     "; wanted a power of two from 8 to ", kAlignmentMax);
  }
  const size_t mask = static_cast<size_t>(alignment) - 1;
  const size_t data_begin = (directory_end + mask) & ~mask;  // both below 2^63: no overflow
  head_ = bytes.first(directory_end);
  if (tensors_.empty()) return absl::OkStatus();
  if (data_begin > bytes.size()) {
    return Malformed(name_, "tensor data should begin at byte ", data_begin, ", found a file of ",
                     bytes.size(), " bytes; fetch the file again");
  }
  const std::span<const std::byte> data = bytes.subspan(data_begin);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    GgufTensor& tensor = tensors_[i];
    const std::string field = absl::StrCat("tensor ", Quoted(tensor.name));
    const TensorTypeTraits traits = TraitsOf(tensor.type);
    if (tensor.dims[0] % traits.block_elements != 0) {
      return Malformed(name_, field, " has rows of ", tensor.dims[0], " elements; type ",
                       traits.name, " wants a multiple of ", traits.block_elements);
    }
    uint64_t tensor_bytes = RowBytes(tensor.type, tensor.dims[0]);
    for (int d = 1; d < tensor.num_dims; ++d) {
      if (__builtin_mul_overflow(tensor_bytes, static_cast<uint64_t>(tensor.dims[d]),
                                 &tensor_bytes)) {
        return Malformed(name_, field, " has dimensions whose product overflows");
      }
    }
    if ((offsets[i] & mask) != 0) {
      return Malformed(name_, field, " has the offset ", offsets[i],
                       ", which is no multiple of the alignment ", alignment);
    }
    if (offsets[i] > data.size() || tensor_bytes > data.size() - offsets[i]) {
      return Malformed(name_, field, " wants ", tensor_bytes, " bytes at offset ", offsets[i],
                       ", found ", data.size(), " bytes of tensor data; fetch the file again");
    }
    tensor.data = data.subspan(offsets[i], tensor_bytes);
  }
  std::vector<size_t> order(tensors_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return offsets[a] < offsets[b]; });
  for (size_t i = 1; i < order.size(); ++i) {
    const GgufTensor& before = tensors_[order[i - 1]];
    const GgufTensor& after = tensors_[order[i]];
    if (before.data.data() + before.data.size() > after.data.data()) {
      return Malformed(name_, "tensor ", Quoted(after.name), " overlaps tensor ",
                       Quoted(before.name));
    }
  }
  return absl::OkStatus();
}

const GgufTensor* GgufFile::FindTensor(absl::string_view tensor_name) const {
  const auto found = tensor_index_.find(tensor_name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue* GgufFile::Find(absl::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

absl::Status GgufFile::WrongType(absl::string_view key, absl::string_view wanted) const {
  return Malformed(name_, "metadata ", Quoted(key), " has another type than wanted (", wanted, ")");
}

absl::StatusOr<std::optional<int64_t>> GgufFile::Integer(absl::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<int64_t>(value)) return *number;
  if (const auto* number = std::get_if<uint64_t>(value)) {
    if (*number <= uint64_t{std::numeric_limits<int64_t>::max()}) {
      return static_cast<int64_t>(*number);
    }
    return Malformed(name_, "metadata ", Quoted(key), " is ", *number, ", which is absurd");
  }
  return WrongType(key, "an integer");
}

absl::StatusOr<std::optional<double>> GgufFile::Number(absl::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<int64_t>(value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<uint64_t>(value)) return static_cast<double>(*number);
  return WrongType(key, "a number");
}

absl::StatusOr<std::optional<bool>> GgufFile::Flag(absl::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  return WrongType(key, "a boolean");
}

absl::StatusOr<std::optional<absl::string_view>> GgufFile::Text(absl::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* text = std::get_if<absl::string_view>(value)) return *text;
  return WrongType(key, "a string");
}

absl::StatusOr<const GgufArray*> GgufFile::ArrayOf(absl::string_view key) const {
  static constexpr GgufArray kEmpty;
  const GgufValue* value = Find(key);
  if (value == nullptr) return &kEmpty;
  if (const auto* array = std::get_if<GgufArray>(value)) return array;
  return WrongType(key, "an array");
}

absl::StatusOr<std::vector<std::string>> GgufFile::Strings(absl::string_view key) const {
  ASSIGN_OR_RETURN(const GgufArray* array, ArrayOf(key));
  std::vector<std::string> strings;
  if (array->count == 0) return strings;
  if (array->element_type != GgufType::kString) return WrongType(key, "an array of strings");
  strings.reserve(array->count);  // at most an eighth of the file's bytes, checked by ReadArray
  GgufCursor cursor(array->bytes);
  absl::string_view element;
  while (strings.size() < array->count && cursor.ReadString(element)) strings.emplace_back(element);
  return strings;
}

absl::StatusOr<std::vector<int32_t>> GgufFile::Integers(absl::string_view key) const {
  ASSIGN_OR_RETURN(const GgufArray* array, ArrayOf(key));
  if (array->count > 0 && array->element_type != GgufType::kInt32 &&
      array->element_type != GgufType::kUint32) {
    return WrongType(key, "an array of 32-bit integers");
  }
  std::vector<int32_t> integers(array->count);
  if (!integers.empty()) std::memcpy(integers.data(), array->bytes.data(), array->bytes.size());
  return integers;
}

absl::StatusOr<std::vector<float>> GgufFile::Floats(absl::string_view key) const {
  ASSIGN_OR_RETURN(const GgufArray* array, ArrayOf(key));
  if (array->count > 0 && array->element_type != GgufType::kFloat32) {
    return WrongType(key, "an array of 32-bit floats");
  }
  std::vector<float> floats(array->count);
  if (!floats.empty()) std::memcpy(floats.data(), array->bytes.data(), array->bytes.size());
  return floats;
}

}  // namespace holdfast
