// A text file read line by line, plain, gzip or xz (unpacked_file.h finds out which). Lines end in
// \n or \r\n; a byte-order mark at the beginning is skipped. A longer line than kLineBytesMax is
// passed over and reported as such.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workload/unpacked_file.h"

namespace holdfast {

inline constexpr size_t kLineBytesMax = size_t{4} << 20;
inline constexpr int64_t kUnpackedBytesMax = int64_t{16} << 30;

class LineFile final {
 public:
  static absl::StatusOr<LineFile> Open(const std::string& path);

  struct Line {
    std::string text;       // empty if too_long
    bool too_long = false;  // had more than kLineBytesMax bytes
  };
  // The next line; nothing at the end of the file. DataLoss: damaged gzip or xz. ResourceExhausted:
  // more than kUnpackedBytesMax bytes.
  absl::StatusOr<std::optional<Line>> Next();
  // Up to `count` lines that Next will give.
  absl::StatusOr<std::vector<Line>> Peek(size_t count);
  int64_t line_number() const { return line_number_; }  // of the line that Next gave last, from 1

  const std::string& path() const { return path_; }

 private:
  LineFile(std::string path, std::unique_ptr<UnpackedFile> file)
      : path_(std::move(path)), file_(std::move(file)) {}

  absl::Status Refill();  // empties buffer_ at the end
  absl::StatusOr<std::optional<Line>> Read();

  std::string path_;
  std::unique_ptr<UnpackedFile> file_;
  std::string buffer_;
  size_t buffer_at_ = 0;
  int64_t bytes_read_ = 0;
  bool at_start_ = true;
  int64_t line_number_ = 0;
  std::deque<Line> peeked_;
};

// Lower-case hexadecimal, of the bytes as they lie there.
absl::StatusOr<std::string> FileSha256(const std::string& path);

}  // namespace holdfast
