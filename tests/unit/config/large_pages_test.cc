#include "config/base/large_pages.h"

#include <gtest/gtest.h>

#include <vector>

namespace holdfast {
namespace {

TEST(LargePagesTest, WhatIsTakenLiesSideBySideFromTheBeginOfALargePageOn) {
  LargePages memory;
  std::byte* const first = memory.Take(1000);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % LargePages::kLargePageBytes, 0u);
  EXPECT_EQ(memory.Take(64), first + 1024);
  EXPECT_EQ(memory.Take(1), first + 1088);
}

TEST(LargePagesTest, MemoryOfAnySizeIsZeroedAndKeepsWhatIsWrittenToIt) {
  constexpr size_t kSizes[] = {1, 5 << 20, 61 << 20, 70 << 20, 3 << 20, 4097};
  LargePages memory;
  std::vector<std::byte*> taken;
  for (const size_t bytes : kSizes) {
    std::byte* const data = memory.Take(bytes);
    ASSERT_NE(data, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
    EXPECT_EQ(data[0], std::byte{0});
    EXPECT_EQ(data[bytes - 1], std::byte{0});
    data[bytes - 1] = data[0] = static_cast<std::byte>(taken.size() + 1);
    taken.push_back(data);
  }
  for (size_t i = 0; i < taken.size(); ++i) {
    EXPECT_EQ(taken[i][0], static_cast<std::byte>(i + 1));
    EXPECT_EQ(taken[i][kSizes[i] - 1], static_cast<std::byte>(i + 1));
  }
}

}  // namespace
}  // namespace holdfast
