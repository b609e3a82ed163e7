#include "scheduler/chunker.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(ChunkerTest, DecodesTakeOneRowAndPrefillsShareTheRest) {
  Chunker chunker({.step = 10, .chunk = 6, .long_prefill = 100, .offline = 10});
  chunker.TakeDecode();
  chunker.TakeDecode();
  EXPECT_EQ(chunker.Take(100), 6);
  EXPECT_EQ(chunker.Take(100), 2);
  EXPECT_EQ(chunker.Take(1), 0);
  EXPECT_EQ(chunker.left(), 0);
}

TEST(ChunkerTest, AShortPrefillTakesWhatItNeeds) {
  Chunker chunker({.step = 10, .chunk = 6, .long_prefill = 10, .offline = 10});
  EXPECT_EQ(chunker.Take(4), 4);
  EXPECT_EQ(chunker.left(), 6);
}

TEST(ChunkerTest, LongPrefillsShareAPartOfTheRowsBesideDecodesAndShortOnesDoNot) {
  Chunker chunker({.step = 100, .chunk = 50, .long_prefill = 20, .offline = 10});
  EXPECT_EQ(chunker.Take(1000), 50);  // nobody waits for a token of this step yet
  chunker.TakeDecode();
  EXPECT_EQ(chunker.Take(1000), 20);
  EXPECT_FALSE(chunker.HasRoom(21, false));
  EXPECT_EQ(chunker.Take(1000), 0);
  EXPECT_TRUE(chunker.HasRoom(20, false));
  EXPECT_EQ(chunker.Take(20), 20);
  EXPECT_EQ(chunker.left(), 9);
}

TEST(ChunkerTest, OfflinePrefillsShareAPartOfTheRowsAlways) {
  Chunker chunker({.step = 100, .chunk = 50, .long_prefill = 20, .offline = 10});
  EXPECT_EQ(chunker.Take(8, true), 8);
  EXPECT_EQ(chunker.Take(8, true), 2);
  EXPECT_FALSE(chunker.HasRoom(1, true));
  EXPECT_EQ(chunker.Take(8, false), 8);
}

TEST(ChunkerTest, BesideOnlinePrefillsOfflineRowsAreASixteenthOfThose) {
  Chunker chunker({.step = 100, .chunk = 50, .long_prefill = 50, .offline = 10});
  EXPECT_EQ(chunker.Take(50, false), 50);
  EXPECT_EQ(chunker.Take(2, true), 2);
  EXPECT_EQ(chunker.Take(4, true), 1);
  EXPECT_FALSE(chunker.HasRoom(1, true));
}

TEST(ChunkerTest, RowsDealtInTwoGoesAreNoMoreThanInOne) {
  Chunker chunker({.step = 100, .chunk = 50, .long_prefill = 100, .offline = 10});
  EXPECT_EQ(chunker.Take(60, false, 0, 20), 20);
  EXPECT_EQ(chunker.Take(60, false, 20), 30);
  EXPECT_EQ(chunker.Take(60, false, 50), 0);
  EXPECT_EQ(chunker.left(), 50);
}

TEST(ChunkerTest, LongPrefillsLeaveRowsToOthersPromptsAsToDecodes) {
  Chunker chunker({.step = 100, .chunk = 50, .long_prefill = 20, .offline = 10});
  chunker.BesideOthers();
  EXPECT_EQ(chunker.Take(1000), 20);
  EXPECT_EQ(chunker.Take(1000), 0);
  chunker.Withhold(60);
  EXPECT_EQ(chunker.left(), 20);
}

}  // namespace
}  // namespace holdfast
