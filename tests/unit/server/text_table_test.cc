#include "server/text_table.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast {
namespace {

constexpr TextTable::Kind kNumber = TextTable::Kind::kNumber;

TextTable Tenants(const std::string& name) {
  return {.columns = {{"TENANT"}, {"RUN", kNumber}, {"WHY"}, {"WEIGHT", kNumber}},
          .rows = {{name, "3", "", "1"}, {"b", "12", "blocks 2", "100"}}};
}

std::string Drawn(const TextTable& table, int width) {
  std::string text = PlainText(DrawTable(table, width));
  return text;
}

TEST(TextTableTest, ColumnsAreAsWideAsTheirCells) {
  EXPECT_EQ(Drawn(Tenants("a"), 80),
            "TENANT RUN WHY      WEIGHT\n"
            "a        3               1\n"
            "b       12 blocks 2    100\n");
}

TEST(TextTableTest, TextIsCutWhereThereIsNoRoomForAllOfIt) {
  EXPECT_EQ(Drawn(Tenants("a-tenant-of-a-long-name"), 37),
            "TENANT            RUN WHY      WEIGHT\n"
            "a-tenant-of-a-lo~   3               1\n"
            "b                  12 blocks 2    100\n");
}

TEST(TextTableTest, TextIsCutWhereItWouldPushOutTheRest) {
  const std::string cut = std::string(kTextCellsMax - 1, 'a') + "~";
  EXPECT_NE(Drawn(Tenants(std::string(1000, 'a')), 200).find(cut + "   3 "), std::string::npos);
}

TEST(TextTableTest, ColumnsOfTheRightAreLeftOutWhereEvenCutTextDoesNotFit) {
  EXPECT_EQ(Drawn(Tenants("a-tenant-of-a-long-name"), 25),
            "TENANT       RUN WHY\n"
            "a-tenant-of~   3\n"
            "b             12 blocks 2\n");
  EXPECT_EQ(Drawn(Tenants("a-tenant-of-a-long-name"), 20),
            "TENANT           RUN\n"
            "a-tenant-of-a-l~   3\n"
            "b                 12\n");
}

TEST(TextTableTest, TheFirstColumnStaysHoweverNarrow) {
  EXPECT_EQ(Drawn(Tenants("a-tenant"), 5), "TENA~\na-te~\nb\n");
  EXPECT_EQ(Drawn(Tenants("a"), 1), "~\na\nb\n");
}

TEST(TextTableTest, HeadingsReachOverTheWholeWidth) {
  const Frame frame = DrawTable(Tenants("a"), 60);
  ASSERT_EQ(frame.size(), 3U);
  EXPECT_EQ(frame[0].room(), 0);
  for (const FrameLine::Span& span : frame[0].spans()) EXPECT_EQ(span.look, Look::kHeading);
}

}  // namespace
}  // namespace holdfast
