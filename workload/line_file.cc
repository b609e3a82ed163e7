#include "workload/line_file.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"

namespace holdfast {
namespace {

constexpr size_t kReadBytes = size_t{256} << 10;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

absl::StatusOr<LineFile> LineFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<UnpackedFile> file, UnpackedFile::Open(path));
  return LineFile(path, std::move(file));
}

absl::Status LineFile::Refill() {
  buffer_.resize(kReadBytes);
  buffer_at_ = 0;
  const absl::StatusOr<size_t> count = file_->Read(buffer_);
  if (!count.ok()) {
    return absl::DataLossError(Concat(path_, " cannot be read beyond line ", line_number_,
                                      " (damaged or cut off): ", count.status().message()));
  }
  buffer_.resize(*count);
  bytes_read_ += static_cast<int64_t>(*count);
  if (bytes_read_ > kUnpackedBytesMax) {
    return absl::ResourceExhaustedError(
        Concat(path_, " unpacks to more than ", kUnpackedBytesMax, " bytes; split it"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<LineFile::Line>> LineFile::Read() {
  Line line;
  bool any = false;
  while (true) {
    if (buffer_at_ == buffer_.size()) {
      RETURN_IF_ERROR(Refill());
      if (buffer_.empty()) break;
    }
    any = true;
    const size_t end = buffer_.find('\n', buffer_at_);
    const size_t stop = end == std::string::npos ? buffer_.size() : end;
    // Two more: a carriage return, and the byte that says that it is too long.
    const size_t room = kLineBytesMax + 2 - std::min(kLineBytesMax + 2, line.text.size());
    line.text.append(buffer_, buffer_at_, std::min(stop - buffer_at_, room));
    buffer_at_ = end == std::string::npos ? stop : stop + 1;
    if (end != std::string::npos) break;
  }
  if (!any) return std::nullopt;
  if (std::exchange(at_start_, false) && line.text.starts_with(kByteOrderMark)) {
    line.text.erase(0, kByteOrderMark.size());
  }
  if (line.text.ends_with('\r')) line.text.pop_back();
  if (line.text.size() > kLineBytesMax) line = Line{.text = {}, .too_long = true};
  return line;
}

absl::StatusOr<std::optional<LineFile::Line>> LineFile::Next() {
  std::optional<Line> line;
  if (!peeked_.empty()) {
    line = std::move(peeked_.front());
    peeked_.pop_front();
  } else {
    ASSIGN_OR_RETURN(line, Read());
  }
  if (line) ++line_number_;
  return line;
}

absl::StatusOr<std::vector<LineFile::Line>> LineFile::Peek(size_t count) {
  while (peeked_.size() < count) {
    ASSIGN_OR_RETURN(std::optional<Line> line, Read());
    if (!line) break;
    peeked_.push_back(*std::move(line));
  }
  return std::vector<Line>(peeked_.begin(), peeked_.begin() + static_cast<std::ptrdiff_t>(
                                                                  std::min(count, peeked_.size())));
}

absl::StatusOr<std::string> FileSha256(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  if (!file || context == nullptr || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
    return absl::NotFoundError(Concat("the workload file ", path, " cannot be read"));
  }
  std::vector<char> piece(kReadBytes);
  while (file) {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    EVP_DigestUpdate(context.get(), piece.data(), static_cast<size_t>(file.gcount()));
  }
  if (file.bad()) return absl::DataLossError(Concat(path, " cannot be read to its end"));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  if (EVP_DigestFinal_ex(context.get(), digest.data(), &size) != 1) {
    return absl::InternalError(Concat("SHA-256 of ", path, " failed"));
  }
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), size));
}

}  // namespace holdfast
