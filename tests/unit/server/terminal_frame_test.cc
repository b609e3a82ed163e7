#include "server/terminal_frame.h"

#include <gtest/gtest.h>

#include <clocale>
#include <string>

#include "server/terminal_text.h"

namespace holdfast {
namespace {

class TerminalFrameTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(std::setlocale(LC_CTYPE, "C.UTF-8"), nullptr); }
  void TearDown() override { std::setlocale(LC_CTYPE, "C"); }
};

TEST_F(TerminalFrameTest, NothingThatSteersATerminalIsShown) {
  EXPECT_EQ(ShownText("blue"), "blue");
  EXPECT_EQ(ShownText("a\x1b[2Jb\r\n\t\x7f"), "a?[2Jb????");
  EXPECT_EQ(ShownText(std::string("a\0b", 3)), "a?b");
  EXPECT_EQ(ShownText("\xc2\x9b"
                      "2J"),
            "?2J");                                           // CSI as one character
  EXPECT_EQ(ShownText("a\u202eb\u200bc\u2028d"), "a?b?c?d");  // turns, takes no room, ends a line
  EXPECT_EQ(ShownText("\xff\xe6\x97"), "???");                // no characters, or a part of one
}

TEST_F(TerminalFrameTest, CharactersOfTheLocaleAreShownAndTakeTheirColumns) {
  EXPECT_EQ(ShownText("é日本"), "é日本");
  EXPECT_EQ(CellsOf("é日本"), 5);
  std::setlocale(LC_CTYPE, "C");
  EXPECT_EQ(ShownText("é"), "??");
}

TEST_F(TerminalFrameTest, WhatIsTooLongIsCutAtWholeCharactersAndMarked) {
  EXPECT_EQ(CutToCells("tenant", 6), "tenant");
  EXPECT_EQ(CutToCells("tenant", 5), "tena~");
  EXPECT_EQ(CutToCells("日本語", 5), "日本~");
  EXPECT_EQ(CutToCells("日本語", 4), "日~");
  EXPECT_EQ(CutToCells("tenant", 1), "~");
  EXPECT_EQ(CutToCells("tenant", 0), "");
}

TEST_F(TerminalFrameTest, ALineTakesNoMoreThanItsWidthHoweverManyAddToIt) {
  FrameLine line(8);
  line.Add("ab", Look::kTitle).Add("\x1b[m").Add("cdefgh");
  EXPECT_EQ(line.Text(), "ab?[mcd~");
  EXPECT_EQ(line.room(), 0);
  line.Add("more");
  EXPECT_EQ(line.Text(), "ab?[mcd~");
}

Frame TwoLines() {
  Frame frame(2, FrameLine(10));
  frame[0].Add("title", Look::kTitle).Add("  ");
  frame[1].Add("###", Look::kHeld).Add(" in use");
  return frame;
}

TEST_F(TerminalFrameTest, AFileGetsLinesWithoutEscapeSequences) {
  EXPECT_EQ(PlainText(TwoLines()), "title\n### in use\n");
}

TEST_F(TerminalFrameTest, AScreenIsDrawnLineByLineAndClearedBelow) {
  EXPECT_EQ(ScreenText(TwoLines(), 24, Colour::kOfLooks),
            "\x1b[1H\x1b[K\x1b[1mtitle\x1b[m  \x1b[2H\x1b[K\x1b[32m###\x1b[m in use\x1b[3H\x1b[J");
}

TEST_F(TerminalFrameTest, WithoutColourOnlyWhatIsBoldOrReverseIsSaid) {
  EXPECT_EQ(ScreenText(TwoLines(), 24, Colour::kNone),
            "\x1b[1H\x1b[K\x1b[1mtitle\x1b[m  \x1b[2H\x1b[K### in use\x1b[3H\x1b[J");
}

TEST_F(TerminalFrameTest, AScreenGetsNoLineBelowItsLast) {
  EXPECT_EQ(ScreenText(TwoLines(), 1, Colour::kNone), "\x1b[1H\x1b[K\x1b[1mtitle\x1b[m  ");
  EXPECT_EQ(ScreenText(TwoLines(), 0, Colour::kNone), "");
}

}  // namespace
}  // namespace holdfast
