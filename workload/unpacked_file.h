// The bytes of a file: plain, gzip or xz. Which of them is seen from its first bytes, not from its
// name.
//
// Bound: kUnpackMemoryMax of an xz file's dictionary, which every preset of xz fits in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace holdfast {

inline constexpr uint64_t kUnpackMemoryMax = uint64_t{128} << 20;

class UnpackedFile {
 public:
  // NotFound: it cannot be opened.
  static absl::StatusOr<std::unique_ptr<UnpackedFile>> Open(const std::string& path);
  virtual ~UnpackedFile() = default;

  // The next bytes, so many of `room` as there are at once; 0 at the end. DataLoss: the file is
  // damaged or cut off; the message says how and names no file.
  virtual absl::StatusOr<size_t> Read(std::span<char> room) = 0;
};

}  // namespace holdfast
