#include "server/log.h"

#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "config/base/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class FakeClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixMillis(1'700'000'000'125);
};

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(LogTest, ATextLineIsTimeLevelEventAndFields) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, absl::FromUnixMillis(1'700'000'000'125),
                          LogLevel::kInfo, "ready",
                          {{"http", "127.0.0.1:8080"},
                           {"model", "a name"},
                           {"threads", 2},
                           {"load", absl::Milliseconds(1500)},
                           {"empty", ""}},
                          0),
            "2023-11-14T22:13:20.125Z info ready http=127.0.0.1:8080 model=\"a name\" threads=2 "
            "load=1.5 empty=\"\"");
}

TEST(LogTest, AJsonLineIsOneObjectWithNumbersAsNumbers) {
  const std::string line =
      FormatLogLine(LogFormat::kJson, absl::FromUnixMillis(1'700'000'000'125), LogLevel::kWarn,
                    "queue_full", {{"tenant", "blue"}, {"waiting", 512}, {"ratio", 0.5}}, 3);
  EXPECT_EQ(line,
            "{\"time\":\"2023-11-14T22:13:20.125Z\",\"level\":\"warn\",\"event\":\"queue_full\","
            "\"tenant\":\"blue\",\"waiting\":512,\"ratio\":0.5,\"suppressed\":3}");
}

// A value comes from outside now and then (an address, a file's name): it must not end the line.
TEST(LogTest, NoValueCanEndTheLineOrForgeAnother) {
  const std::vector<std::string> values = {"a\nb",
                                           "a\r\n2023-11-14T22:13:20Z error forged",
                                           "quote\" level=error",
                                           "back\\slash",
                                           std::string("zero\0byte", 9),
                                           "\x1b[31mred",
                                           "broken \xff\xfe utf8",
                                           "\xe2\x80\xa8",
                                           std::string(100'000, 'x')};
  for (const std::string& value : values) {
    SCOPED_TRACE(value.substr(0, 40));
    const std::string text =
        FormatLogLine(LogFormat::kText, absl::UnixEpoch(), LogLevel::kInfo, "e", {{"v", value}}, 0);
    EXPECT_THAT(text, Not(HasSubstr("\n")));
    EXPECT_THAT(text, Not(HasSubstr("\r")));
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
    EXPECT_LT(text.size(), 8000u);
    const std::string json =
        FormatLogLine(LogFormat::kJson, absl::UnixEpoch(), LogLevel::kInfo, "e", {{"v", value}}, 0);
    EXPECT_THAT(json, Not(HasSubstr("\n")));
    const auto parsed = nlohmann::json::parse(json, nullptr, false);
    ASSERT_FALSE(parsed.is_discarded()) << json;
    EXPECT_EQ(parsed.size(), 4u);
  }
}

TEST(LogTest, NumbersThatJsonDoesNotKnowBecomeText) {
  const std::string json = FormatLogLine(LogFormat::kJson, absl::UnixEpoch(), LogLevel::kInfo, "e",
                                         {{"v", absl::InfiniteDuration()}}, 0);
  const auto parsed = nlohmann::json::parse(json, nullptr, false);
  ASSERT_FALSE(parsed.is_discarded()) << json;
  EXPECT_EQ(parsed["v"], "inf");
}

TEST(LogTest, LinesBelowTheLevelAreNotWritten) {
  FakeClock clock;
  std::ostringstream out;
  {
    Log log({.level = LogLevel::kWarn, .out = &out}, clock);
    log.Debug("one");
    log.Info("two");
    log.Warn("three");
    log.Error("four");
  }
  EXPECT_EQ(out.str(),
            "2023-11-14T22:13:20.125Z warn three\n2023-11-14T22:13:20.125Z error four\n");
}

TEST(LogTest, ARepeatedEventIsCountedInsteadOfFillingTheDisk) {
  FakeClock clock;
  std::ostringstream out;
  {
    Log log({.out = &out}, clock);
    for (int i = 0; i < 1000; ++i) log.Warn("loud", {{"i", i}});
    log.Warn("quiet");
    clock.now += kLogWindow;
    log.Warn("loud", {{"i", 1000}});
    log.Warn("loud", {{"i", 1001}});
  }
  const std::vector<std::string> lines = Lines(out.str());
  ASSERT_EQ(lines.size(), static_cast<size_t>(kLogLinesMax) + 3);
  EXPECT_THAT(lines[kLogLinesMax], HasSubstr("warn quiet"));
  EXPECT_THAT(lines[kLogLinesMax + 1], HasSubstr("i=1000 suppressed=980"));
  EXPECT_THAT(lines[kLogLinesMax + 2], Not(HasSubstr("suppressed")));
}

TEST(LogTest, LinesOfManyThreadsStayWhole) {
  FakeClock clock;
  std::ostringstream out;
  constexpr const char* kEvents[] = {"event_a", "event_b", "event_c", "event_d"};
  {
    Log log({.format = LogFormat::kJson, .out = &out}, clock);
    std::vector<std::thread> threads;
    for (const char* event : kEvents) {
      threads.emplace_back([&log, event] {
        for (int i = 0; i < kLogLinesMax; ++i) log.Info(event, {{"i", i}});
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const std::vector<std::string> lines = Lines(out.str());
  EXPECT_EQ(lines.size(), 4u * kLogLinesMax);
  for (const std::string& line : lines) EXPECT_TRUE(nlohmann::json::accept(line)) << line;
}

}  // namespace
}  // namespace holdfast
