// A file mapped read-only, for as long as the object lives. Weights are used where they lie;
// nothing is read ahead of its use.
//
// Bound: address space alone. Thread: open on one, read from any.
// A mapped file must not be shortened while it is served (the kernel answers a read past the new
// end with SIGBUS). Replace a model by renaming a new file over it: the mapping keeps the old one.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace holdfast {

class MappedFile final {
 public:
  // NotFound, or InvalidArgument for what is not a regular file or is empty.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  // Gives back the memory of what was read so far, for when most of it is not needed again: reading
  // it later is as slow as the first time, and gives the same.
  void LetGoOfPages() const;

 private:
  MappedFile(std::string path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  const std::byte* data_;
  size_t size_;
};

}  // namespace holdfast
