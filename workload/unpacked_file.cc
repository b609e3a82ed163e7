#include "workload/unpacked_file.h"

#include <lzma.h>
#include <zlib.h>

#include <array>
#include <cstdio>
#include <string_view>
#include <utility>
#include <vector>

#include "config/base/concat.h"

namespace holdfast {
namespace {

using std::string_view_literals::operator""sv;

constexpr size_t kPackedBytes = size_t{256} << 10;
constexpr std::string_view kXzMagic = "\xFD\x37zXZ\x00"sv;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using OpenFile = std::unique_ptr<std::FILE, CloseFile>;

// Plain files too: zlib finds out.
class GzipFile final : public UnpackedFile {
 public:
  explicit GzipFile(gzFile file) : file_(file) {}

  absl::StatusOr<size_t> Read(std::span<char> room) override {
    const int count = gzread(file_.get(), room.data(), static_cast<unsigned>(room.size()));
    int error = Z_OK;
    const char* what = gzerror(file_.get(), &error);
    if (count < 0 || (count == 0 && error == Z_BUF_ERROR)) return absl::DataLossError(what);
    return static_cast<size_t>(count);
  }

 private:
  struct Close {
    void operator()(gzFile_s* file) const { gzclose_r(file); }
  };
  const std::unique_ptr<gzFile_s, Close> file_;
};

const char* WhatIsWrong(lzma_ret error) {
  switch (error) {
    case LZMA_MEM_ERROR:
    case LZMA_MEMLIMIT_ERROR:
      return "xz wants more memory than we give it; pack it with xz -9 or less";
    case LZMA_OPTIONS_ERROR:
      return "it uses what this xz does not know; unpack it with xz -d";
    case LZMA_BUF_ERROR:
      return "the xz data end too early";
    default:
      return "not valid xz data";
  }
}

class XzFile final : public UnpackedFile {
 public:
  explicit XzFile(OpenFile file) : file_(std::move(file)), packed_(kPackedBytes) {}
  XzFile(const XzFile&) = delete;
  XzFile& operator=(const XzFile&) = delete;
  ~XzFile() override { lzma_end(&stream_); }

  bool Init() {
    return lzma_stream_decoder(&stream_, kUnpackMemoryMax, LZMA_CONCATENATED) == LZMA_OK;
  }

  absl::StatusOr<size_t> Read(std::span<char> room) override {
    stream_.next_out = reinterpret_cast<uint8_t*>(room.data());
    stream_.avail_out = room.size();
    while (stream_.avail_out == room.size() && !at_end_) {
      if (stream_.avail_in == 0) {
        stream_.next_in = packed_.data();
        stream_.avail_in = std::fread(packed_.data(), 1, packed_.size(), file_.get());
        if (std::ferror(file_.get()) != 0) return absl::DataLossError("it cannot be read");
      }
      const bool is_over = std::feof(file_.get()) != 0;
      const lzma_ret result = lzma_code(&stream_, is_over ? LZMA_FINISH : LZMA_RUN);
      at_end_ = result == LZMA_STREAM_END;
      if (result != LZMA_OK && !at_end_) return absl::DataLossError(WhatIsWrong(result));
    }
    return room.size() - stream_.avail_out;
  }

 private:
  const OpenFile file_;
  std::vector<uint8_t> packed_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool at_end_ = false;
};

bool IsXz(std::FILE* file) {
  std::array<char, kXzMagic.size()> first;
  const size_t count = std::fread(first.data(), 1, first.size(), file);
  std::rewind(file);
  return std::string_view(first.data(), count) == kXzMagic;
}

}  // namespace

absl::StatusOr<std::unique_ptr<UnpackedFile>> UnpackedFile::Open(const std::string& path) {
  const absl::Status cannot = absl::NotFoundError(
      Concat("the workload file ", path, " cannot be opened; check the path and its permissions"));
  OpenFile file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return cannot;
  if (IsXz(file.get())) {
    auto xz = std::make_unique<XzFile>(std::move(file));
    if (!xz->Init()) return absl::ResourceExhaustedError("no memory to unpack xz");
    return xz;
  }
  const gzFile gzip = gzopen(path.c_str(), "rbe");
  if (gzip == nullptr) return cannot;
  gzbuffer(gzip, kPackedBytes);
  return std::make_unique<GzipFile>(gzip);
}

}  // namespace holdfast
