#include "engine/pages_ahead.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "config/base/page_buffer.h"

namespace holdfast {
namespace {

constexpr size_t kPiece = size_t{2} << 20, kBytes = 16 * kPiece;

class PagesAheadTest : public testing::Test {
 protected:
  // Small pages, so that what is touched is told to the page.
  void SetUp() override {
#ifndef MADV_POPULATE_WRITE
    GTEST_SKIP() << "this system cannot give pages ahead";
#endif
    memory_ = PageBuffer::Map(kBytes);
    ASSERT_TRUE(memory_.has_value());
    madvise(memory_->data(), kBytes, MADV_NOHUGEPAGE);
    if (madvise(memory_->data(), 1, MADV_POPULATE_WRITE) != 0) {
      GTEST_SKIP() << "this system cannot give pages ahead";
    }
  }
  std::span<std::byte> memory() const { return {memory_->data(), kBytes}; }
  bool HasPages(size_t begin, size_t end) const { return CountPages(begin, end) == 1.0; }
  // The share of the pages that are there.
  double CountPages(size_t begin, size_t end) const {
    const auto page = static_cast<size_t>(getpagesize());
    std::vector<unsigned char> there((end - begin) / page);
    EXPECT_EQ(mincore(memory_->data() + begin, end - begin, there.data()), 0);
    return static_cast<double>(std::count(there.begin(), there.end(), 1)) /
           static_cast<double>(there.size());
  }

  std::optional<PageBuffer> memory_;
};

TEST_F(PagesAheadTest, MemoryHasItsPagesAsFarAheadAsWantedAndNoFurther) {
  PagesAhead pages(memory(), 4 * kPiece);
  pages.WaitTouched();
  EXPECT_TRUE(HasPages(0, 4 * kPiece));
  EXPECT_EQ(CountPages(4 * kPiece, kBytes), 0);

  pages.InUse(3 * kPiece);
  pages.WaitTouched();
  EXPECT_TRUE(HasPages(0, 7 * kPiece));
  EXPECT_EQ(CountPages(7 * kPiece, kBytes), 0);

  pages.InUse(kPiece);  // less than before
  pages.WaitTouched();
  EXPECT_EQ(CountPages(7 * kPiece, kBytes), 0);
}

TEST_F(PagesAheadTest, TheEndOfTheMemoryIsTheEnd) {
  PagesAhead pages(memory(), 4 * kPiece);
  pages.InUse(kBytes - kPiece);
  pages.InUse(kBytes);
  pages.WaitTouched();
  EXPECT_TRUE(HasPages(0, kBytes));
}

TEST_F(PagesAheadTest, WhatIsWrittenMeanwhileStays) {
  std::span<std::byte> bytes = memory();
  {
    PagesAhead pages(bytes, kBytes);
    for (size_t i = 0; i < kBytes; i += 512) bytes[i] = std::byte{7};
    pages.WaitTouched();
  }
  for (size_t i = 0; i < kBytes; i += 512) ASSERT_EQ(bytes[i], std::byte{7});
}

TEST_F(PagesAheadTest, GoesAtOnceWhenItsOwnerDoes) {
  { PagesAhead pages(memory(), kBytes); }
  { PagesAhead none({}, kBytes); }
}

}  // namespace
}  // namespace holdfast
