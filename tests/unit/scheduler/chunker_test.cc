#include "scheduler/chunker.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(ChunkerTest, DecodesTakeOneRowAndPrefillsShareTheRest) {
  Chunker chunker(10, 6);
  EXPECT_EQ(chunker.Take(1), 1);
  EXPECT_EQ(chunker.Take(1), 1);
  EXPECT_EQ(chunker.Take(100), 6);
  EXPECT_EQ(chunker.Take(100), 2);
  EXPECT_EQ(chunker.Take(1), 0);
  EXPECT_EQ(chunker.left(), 0);
}

TEST(ChunkerTest, AShortPrefillTakesWhatItNeeds) {
  Chunker chunker(10, 6);
  EXPECT_EQ(chunker.Take(4), 4);
  EXPECT_EQ(chunker.left(), 6);
}

}  // namespace
}  // namespace holdfast
