#include "server/audit_log.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "config/base/clock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

TEST(AuditLogTest, EveryActIsInTheFileWhateverTheLogLeavesOut) {
  const std::string path = testing::TempDir() + "audit_log_test.jsonl";
  std::filesystem::remove(path);
  std::ostringstream said;
  const WallClock clock;
  constexpr int kActs = 3 * kLogLinesMax;
  for (int start = 0; start < 2; ++start) {  // the second goes on behind the first
    Log log({.level = LogLevel::kError, .out = &said}, clock);
    auto audit = AuditLog::Open(path, log, clock);
    ASSERT_TRUE(audit.ok()) << audit.status();
    for (int i = 0; i < kActs; ++i) {
      (*audit)->Write({.who = "administrator",
                       .key = 0x00abcdef,
                       .act = "reload",
                       .on = "",
                       .result = absl::InvalidArgumentError("a\nb")});
    }
  }
  EXPECT_EQ(said.str(), "");
  std::ifstream file(path);
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    const nlohmann::json act = nlohmann::json::parse(line);
    EXPECT_EQ(act["event"], "admin_act");
    EXPECT_EQ(act["key"], "00abcdef");
    EXPECT_EQ(act["result"], "INVALID_ARGUMENT: a\nb");
    EXPECT_FALSE(act.contains("suppressed"));
  }
  EXPECT_EQ(lines, 2 * kActs);
  struct stat status {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST(AuditLogTest, AFileThatCannotBeWrittenIsNamedWithItsSetting) {
  const WallClock clock;
  Log log({}, clock);
  const auto audit = AuditLog::Open("/nowhere/audit.jsonl", log, clock);
  ASSERT_FALSE(audit.ok());
  EXPECT_EQ(audit.status().message(),
            "admin.audit_path: /nowhere/audit.jsonl cannot be written: No such file or directory");
}

}  // namespace
}  // namespace holdfast
