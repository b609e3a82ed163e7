#include "server/top_frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <clocale>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/terminal_text.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

constexpr int64_t kMiB = 1 << 20;

TopView Busy() {
  TopState state{.policy = "continuum", .order = "remaining_work", .block_bytes = kMiB};
  state.whole = {.running = 2,
                 .running_max = 8,
                 .waiting = 1,
                 .free = 20,
                 .held = 50,
                 .pinned = 10,
                 .evictable = 30,
                 .capacity = {100, 200, 0}};
  state.tenants = {{.name = "blue",
                    .why = "blocks 1",
                    .running = 2,
                    .waiting = 1,
                    .pinned = 10,
                    .blocks = {80, 50, 0}},
                   {.name = "red"}};
  state.running = {{.request = "cmpl-1",
                    .tenant = "blue",
                    .session = "agent-1",
                    .priority = "0",
                    .stage = "drawing",
                    .prompt_tokens = 100,
                    .completion_tokens = 7,
                    .blocks = 40,
                    .age = absl::Milliseconds(1250)},
                   {.request = "cmpl-2", .tenant = "blue", .priority = "0", .stage = "drawing"}};
  state.running_total = 2;
  state.waiting = {{.request = "cmpl-3", .tenant = "blue", .stage = "blocks"}};
  state.waiting_total = 1;
  state.pins = {{.tenant = "blue",
                 .session = "agent-2",
                 .why = "paused",
                 .blocks = 10,
                 .left = absl::Seconds(12)}};
  state.pins_total = 1;
  TopRates rates{.span = absl::Seconds(10)};
  rates.all = {.completion_tokens = 123.4, .hit_ratio = 0.62};
  rates.prompt_tokens_computed = 40;
  rates.requests = 1.25;
  rates.first_token = {.p50 = absl::Milliseconds(85), .p95 = absl::Milliseconds(1234)};
  rates.tenants["blue"] = rates.all;
  return {.title = "http://127.0.0.1:8080",
          .hint = "every 2s, q quits",
          .state = std::move(state),
          .rates = std::move(rates)};
}

std::string Drawn(const TopView& view, FrameSize size) { return PlainText(DrawTop(view, size)); }

TEST(TopFrameTest, AScreenHasSumsAboveAndListsBelow) {
  EXPECT_EQ(Drawn(Busy(), {.width = 80, .height = 24}),
            "holdfast top  http://127.0.0.1:8080                            every 2s, q quits\n"
            "2 of 8 places run, 1 wait   policy continuum, order remaining_work\n"
            "tokens/s 123 drawn, 40 of prompts  hits 62%  requests/s 1.2, refused 0.0\n"
            "first token p50 85ms p95 1.2s  next token -  of the last 10s\n"
            "device   100M [##########################ppppppeeeeeeeeeeeeeeeeeee.............]\n"
            "  # in use 40%  p pinned 10%  e evictable 30%  m moving 0%  . free 20%\n"
            "host     200M [================................................................]\n"
            "2 TENANTS RUN WAIT TOK/S HITS DEVICE HOST DISK PINNED WHY THEY WAIT PROGRAMS\n"
            "blue        2    1   123  62%    80M  50M    0    10M blocks 1             0\n"
            "red         0    0     -    -      0    0    0      0                      0\n"
            "2 RUNNING TENANT STAGE   PROMPT ANSWER  KV  AGE SESSION PRIORITY\n"
            "cmpl-1    blue   drawing    100      7 40M 1.2s agent-1        0\n"
            "cmpl-2    blue   drawing      0      0   0    0                0\n"
            "1 WAITING TENANT WHY    PROMPT AGE SESSION PRIORITY\n"
            "cmpl-3    blue   blocks      0   0\n"
            "1 PINS  TENANT WHY     KV ENDS IN\n"
            "agent-2 blue   paused 10M     12s\n");
}

TEST(TopFrameTest, NoFrameIsLargerThanItsScreen) {
  std::setlocale(LC_CTYPE, "C.UTF-8");
  TopView view = Busy();
  for (int i = 0; i < 500; ++i) {
    view.state->tenants.push_back({.name = absl::StrCat("テナント-", i, std::string(60, 'x'))});
    view.state->running.push_back({.session = "\x1b[2J\n"});
  }
  view.fault = "gone\n\n";
  view.rates_fault = std::string(500, 'y');
  for (const int width : {1, 2, 14, 20, 40, 80, 200}) {
    for (const int height : {1, 2, 5, 10, 24, 100}) {
      const Frame frame = DrawTop(view, {.width = width, .height = height});
      EXPECT_LE(frame.size(), static_cast<size_t>(height));
      for (const FrameLine& line : frame) {
        EXPECT_LE(CellsOf(line.Text()), width) << line.Text();
        EXPECT_EQ(line.Text().find_first_of("\x1b\n"), std::string::npos);
      }
    }
  }
  std::setlocale(LC_CTYPE, "C");
}

TEST(TopFrameTest, ListsSayHowManyMoreThereAre) {
  TopView view = Busy();
  view.state->tenants.resize(500);
  view.state->running_total = 2000;
  const std::string frame = Drawn(view, {.width = 80, .height = 24});
  EXPECT_THAT(frame, HasSubstr("\n9 of 500 TENANTS"));
  EXPECT_THAT(frame, HasSubstr("\n2 of 2000 RUNNING"));
  EXPECT_THAT(frame, HasSubstr("\n1 WAITING"));
}

TEST(TopFrameTest, WithoutAHeightAllIsListed) {
  TopView view = Busy();
  view.state->tenants.resize(500);
  const std::string frame = Drawn(view, {.width = 80, .height = std::nullopt});
  EXPECT_THAT(frame, HasSubstr("\n\n500 TENANTS"));
  EXPECT_GT(std::count(frame.begin(), frame.end(), '\n'), 500);
}

TEST(TopFrameTest, ATenantSeesItsPartAndNoPlacesOfOthers) {
  TopView view = Busy();
  view.state->whole.reset();
  const std::string frame = Drawn(view, {});
  EXPECT_THAT(frame, HasSubstr("this tenant's part: 2 run, 1 wait"));
  EXPECT_THAT(frame, Not(HasSubstr("places")));
  EXPECT_THAT(frame, Not(HasSubstr("evictable")));
}

TEST(TopFrameTest, AFaultStandsAboveWhatWasSeenBefore) {
  TopView view = Busy();
  view.fault = "127.0.0.1:8080 does not answer; asking again";
  EXPECT_THAT(Drawn(view, {}), HasSubstr("q quits\n127.0.0.1:8080 does not answer; asking again\n"
                                         "2 of 8 places"));
  view.state.reset();
  view.rates.reset();
  EXPECT_THAT(Drawn(view, {}), EndsWith("asking again\n"));
}

TEST(TopFrameTest, RatesThatAreRefusedAreSaidAndAllElseIsShown) {
  TopView view = Busy();
  view.rates.reset();
  view.rates_fault = "only this machine may read /metrics";
  const std::string frame = Drawn(view, {});
  EXPECT_THAT(frame, HasSubstr("\nno rates: only this machine may read /metrics\ndevice"));
  EXPECT_THAT(frame, HasSubstr("blue        2    1     -    -"));
}

TEST(TopFrameTest, RowsAreSharedSoThatTheShortListsAreWhole) {
  EXPECT_THAT(ShareRows({500, 3, 100, 0}, 23), ElementsAre(10, 3, 10, 0));
  EXPECT_THAT(ShareRows({1, 2, 0, 1}, 23), ElementsAre(1, 2, 0, 1));
  EXPECT_THAT(ShareRows({9, 9, 9}, 4), ElementsAre(2, 1, 1));
  EXPECT_THAT(ShareRows({9}, -3), ElementsAre(0));
}

TEST(TopFrameTest, NumbersAreShortEnoughToCompare) {
  EXPECT_EQ(BytesText(0), "0");
  EXPECT_EQ(BytesText(1023), "1023");
  EXPECT_EQ(BytesText(1536), "1.5K");
  EXPECT_EQ(BytesText(12 * kMiB), "12M");
  EXPECT_EQ(BytesText(kMiB - 1), "1.0M");
  EXPECT_EQ(BytesText(int64_t{5} << 40), "5.0T");
  EXPECT_EQ(RateText(0.04), "0.0");
  EXPECT_EQ(RateText(9.94), "9.9");
  EXPECT_EQ(RateText(1234.5), "1234");
  EXPECT_EQ(TimeText(absl::Microseconds(850)), "800us");
  EXPECT_EQ(TimeText(absl::Microseconds(85'900)), "85ms");
  EXPECT_EQ(TimeText(absl::Milliseconds(1290)), "1.2s");
  EXPECT_EQ(TimeText(absl::Milliseconds(125'900)), "2m5s");
  EXPECT_EQ(TimeText(absl::ZeroDuration()), "0");
}

}  // namespace
}  // namespace holdfast
