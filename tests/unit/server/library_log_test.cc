#include "server/library_log.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <sstream>
#include <string>

#include "absl/time/time.h"
#include "config/base/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/log.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

class FakeClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixMillis(1'700'000'000'125); }
};

TEST(LibraryLogTest, LinesOfTheLibrariesAreEventsOfOurLog) {
  FakeClock clock;
  std::ostringstream out;
  {
    Log log({.format = LogFormat::kJson, .out = &out}, clock);
    const LibraryLog routed(log);
    gpr_log("/src/grpc/tls.cc", 12, GPR_LOG_SEVERITY_ERROR, "Handshake failed:\n%s", "no key");
    GOOGLE_LOG(ERROR) << "String field 'x' contains invalid UTF-8";
    GOOGLE_LOG(WARNING) << "odd";
  }
  std::istringstream lines(out.str());
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  auto event = nlohmann::json::parse(line, nullptr, false);
  ASSERT_FALSE(event.is_discarded()) << line;
  EXPECT_EQ(event["event"], "grpc_library");
  EXPECT_EQ(event["level"], "error");
  EXPECT_EQ(event["what"], "Handshake failed:\nno key");
  EXPECT_EQ(event["at"], "tls.cc:12");
  ASSERT_TRUE(std::getline(lines, line));
  event = nlohmann::json::parse(line, nullptr, false);
  EXPECT_EQ(event["event"], "protobuf_library");
  EXPECT_EQ(event["level"], "error");
  EXPECT_EQ(event["what"], "String field 'x' contains invalid UTF-8");
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_THAT(line, HasSubstr("\"level\":\"warn\""));
  EXPECT_FALSE(std::getline(lines, line));
}

TEST(LibraryLogTest, LastWordsGoToStandardErrorAtOnceAndSoDoesWhatComesAfterTheLog) {
  FakeClock clock;
  std::ostringstream out;
  testing::internal::CaptureStderr();
  {
    Log log({.out = &out}, clock);
    const LibraryLog routed(log);
    gpr_log("a.cc", 1, GPR_LOG_SEVERITY_ERROR, "assertion failed: x == 1");
    gpr_log("a.cc", 2, GPR_LOG_SEVERITY_ERROR, "not the last");
  }
  gpr_log("a.cc", 3, GPR_LOG_SEVERITY_ERROR, "late");
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "holdfast: grpc_library: assertion failed: x == 1 (a.cc:1)\n"
            "holdfast: grpc_library: late (a.cc:3)\n");
  EXPECT_THAT(out.str(), HasSubstr("assertion failed"));
  EXPECT_THAT(out.str(), HasSubstr("not the last"));
}

}  // namespace
}  // namespace holdfast
