#include "server/event_log.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

std::string All(const EventLog& log, int64_t first = 0) {
  std::string sse;
  EXPECT_EQ(log.Read(first, 1 << 20, sse), log.end());
  return sse;
}

TEST(EventLogTest, EventsAreNumberedInOrder) {
  EventLog log;
  log.Append("data: a\n\nevent: x\ndata: b\n\n");
  log.Append("data: [DONE]\n\n");
  EXPECT_EQ(All(log), "id: 0\ndata: a\n\nid: 1\nevent: x\ndata: b\n\nid: 2\ndata: [DONE]\n\n");
  EXPECT_EQ(All(log, 2), "id: 2\ndata: [DONE]\n\n");
  EXPECT_EQ(All(log, 3), "");
}

TEST(EventLogTest, AReadTakesOneEventAtLeastAndNoMoreThanItsBytes) {
  EventLog log;
  log.Append("data: a\n\ndata: b\n\ndata: c\n\n");
  std::string sse;
  EXPECT_EQ(log.Read(0, 0, sse), 1);
  sse.clear();
  EXPECT_EQ(log.Read(0, 30, sse), 2);
  EXPECT_EQ(sse, "id: 0\ndata: a\n\nid: 1\ndata: b\n\n");
}

TEST(EventLogTest, WhatIsDroppedCostsNothingAndLeavesTheNumbersAsTheyAre) {
  EventLog log;
  log.Append("data: a\n\ndata: b\n\n");
  log.DropOldest();
  EXPECT_EQ(log.begin(), 1);
  EXPECT_EQ(All(log, 1), "id: 1\ndata: b\n\n");
  log.DropOldest();
  EXPECT_EQ(log.bytes(), 0u);
  log.Append("data: c\n\n");
  EXPECT_EQ(All(log, 2), "id: 2\ndata: c\n\n");
}

// Readers that begin again behind what they have seen, in whatever pieces, see what one reader from
// the begin sees. The seed replays a failure.
TEST(EventLogTest, PiecesReadInTurnAreTheWholeOnRandomWalks) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    EventLog log;
    std::string whole, pieces;
    int64_t seen = 0;
    for (int i = 0; i < 200; ++i) {
      if (rng() % 2 == 0) {
        std::string sse;
        for (uint32_t n = rng() % 4; n > 0; --n) {
          const std::string event = absl::StrCat("data: ", std::string(rng() % 50, 'x'), "\n\n");
          absl::StrAppend(&whole, "id: ", log.end() + std::count(sse.begin(), sse.end(), ':'), "\n",
                          event);
          sse += event;
        }
        log.Append(sse);
      } else if (rng() % 3 == 0 && log.begin() < seen) {
        log.DropOldest();
      } else {
        seen = log.Read(seen, rng() % 200, pieces);
      }
    }
    log.Read(seen, 1 << 20, pieces);
    ASSERT_EQ(pieces, whole);
  }
}

}  // namespace
}  // namespace holdfast
