#include "engine/mapped_file.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr int64_t kFileBytes = int64_t{16} << 20;

// Of this process, backed by files and in memory.
int64_t ResidentFileBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t all_pages = 0, resident_pages = 0, of_files = 0;
  statm >> all_pages >> resident_pages >> of_files;
  return of_files * sysconf(_SC_PAGESIZE);
}

bool HoldsOnlyNines(const MappedFile& file) {
  return std::all_of(file.bytes().begin(), file.bytes().end(),
                     [](std::byte byte) { return byte == std::byte{'9'}; });
}

TEST(MappedFileTest, GivesBackTheMemoryOfWhatWasReadAndReadsItAnew) {
  const std::string path = testing::TempDir() + "holdfast_mapped_file_test";
  std::ofstream(path) << std::string(kFileBytes, '9');
  const auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(HoldsOnlyNines(**file));
  const int64_t read = ResidentFileBytes();

  (*file)->LetGoOfPages();

  EXPECT_LT(ResidentFileBytes(), read - kFileBytes / 2);
  EXPECT_TRUE(HoldsOnlyNines(**file));
  std::remove(path.c_str());
}

}  // namespace
}  // namespace holdfast
