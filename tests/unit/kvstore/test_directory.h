// A directory of its own for each test, gone with it.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace holdfast {

class TestDirectory final {
 public:
  TestDirectory() {
    std::string path = testing::TempDir() + "/holdfast-tier-XXXXXX";
    path_ = mkdtemp(path.data());
  }
  ~TestDirectory() { std::filesystem::remove_all(path_); }
  TestDirectory(const TestDirectory&) = delete;

  std::string path() const { return path_; }

  // Segment files, oldest first.
  std::vector<std::filesystem::path> segments() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      if (entry.path().extension() == ".hfkv") found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
  }
  int64_t segment_bytes() const {
    int64_t bytes = 0;
    for (const auto& path : segments()) {
      bytes += static_cast<int64_t>(std::filesystem::file_size(path));
    }
    return bytes;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace holdfast
