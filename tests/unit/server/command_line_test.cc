#include "server/command_line.h"

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "config/daemon_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<CommandLine> Parse(std::vector<std::string> words) {
  return ParseCommandLine(words);
}

std::string Refusal(std::vector<std::string> words) {
  const auto line = ParseCommandLine(words);
  return line.ok() ? "" : std::string(line.status().message());
}

TEST(CommandLineTest, FlagsBecomeSettings) {
  const auto line =
      Parse({"serve", "--http", "127.0.0.1:0", "--grpc=", "--threads=3", "--kv-device-bytes",
             "1GiB", "--model", "/m.gguf", "--drain-timeout=5s", "--allow-anonymous", "--port-file",
             "/p", "--config", "/c.yaml", "--http", "127.0.0.1:1"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->verb, Verb::kServe);
  EXPECT_EQ(line->port_file, "/p");
  EXPECT_EQ(line->config_path, "/c.yaml");
  DaemonConfig config;
  ASSERT_TRUE(ApplyOverrides(*line, config).ok());
  EXPECT_EQ(config.listen.http, "127.0.0.1:1");  // the last of equal flags
  EXPECT_EQ(config.listen.grpc, "");
  EXPECT_TRUE(config.listen.allow_anonymous);
  EXPECT_EQ(config.engine.threads, 3);
  EXPECT_EQ(config.engine.kv_device_bytes, int64_t{1} << 30);
  EXPECT_EQ(config.model.path, "/m.gguf");
  EXPECT_EQ(config.server.drain_timeout, absl::Seconds(5));
}

TEST(CommandLineTest, BadValuesAreAllNamedWithTheirFlags) {
  const auto line = Parse({"serve", "--threads", "many", "--log-level", "loud"});
  ASSERT_TRUE(line.ok());
  DaemonConfig config;
  EXPECT_EQ(std::string(ApplyOverrides(*line, config).message()),
            "--threads: wanted a whole number from 0 to 1024, found `many`\n"
            "--log-level: wanted debug | info | warn | error, found `loud`");
}

TEST(CommandLineTest, TopTakesWhatNamesTheDaemonAndHowItIsLookedAt) {
  const auto line = Parse({"top", "--url=http://h:1", "--once", "--http", "127.0.0.1:7"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->verb, Verb::kTop);
  ASSERT_EQ(line->arguments.size(), 2U);
  EXPECT_EQ(line->arguments[0].value, "http://h:1");
  EXPECT_EQ(line->arguments[1].flag, "--once");
  EXPECT_EQ(line->overrides.size(), 1U);
  EXPECT_THAT(Refusal({"top", "--model", "m"}), HasSubstr("unknown flag --model"));
}

TEST(CommandLineTest, AHealthCheckTakesWhatNamesThePort) {
  const auto line = Parse({"health", "--http", "127.0.0.1:7"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->verb, Verb::kHealth);
  DaemonConfig config;
  ASSERT_TRUE(ApplyOverrides(*line, config).ok());
  EXPECT_EQ(config.listen.http, "127.0.0.1:7");
  EXPECT_THAT(Refusal({"health", "--grpc", "127.0.0.1:7"}), HasSubstr("unknown flag --grpc"));
}

TEST(CommandLineTest, TlsFlagsBelongTogether) {
  DaemonConfig config;
  EXPECT_FALSE(ApplyOverrides(*Parse({"serve", "--tls-key", "/k"}), config).ok());
  DaemonConfig both;
  EXPECT_TRUE(ApplyOverrides(*Parse({"serve", "--tls-key=/k", "--tls-certificate=/c"}), both).ok());
}

// As the help text lists them of a verb, "--threads".
std::vector<std::string> FlagsInHelp(const std::string& verb) {
  const std::string help = HelpText();
  const size_t begin = help.find("\nflags of " + verb);
  EXPECT_NE(begin, std::string::npos) << verb;
  if (begin == std::string::npos) return {};
  const size_t end = help.find("\nflags of ", begin + 1);
  std::vector<std::string> flags;
  for (size_t at = begin; (at = help.find("\n  --", at)) < end;) {
    at += 3;
    flags.push_back(help.substr(at, help.find(' ', at) - at));
  }
  return flags;
}

TEST(CommandLineTest, EveryFlagOfTheHelpTextIsTaken) {
  EXPECT_GT(FlagsInHelp("serve").size(), 20u);
  for (const std::string& name : FlagsInHelp("serve")) {
    EXPECT_TRUE(Parse({"serve", name + "=x"}).ok()) << name;
  }
  EXPECT_GT(FlagsInHelp("simulate").size(), 15u);
  for (const std::string& name : FlagsInHelp("simulate")) {
    EXPECT_TRUE(Parse({"simulate", "--workload=w", name + "=x"}).ok()) << name;
  }
  EXPECT_GT(FlagsInHelp("replay").size(), 15u);
  for (const std::string& name : FlagsInHelp("replay")) {
    EXPECT_TRUE(Parse({"replay", "--workload=w", name + "=x"}).ok()) << name;
  }
  EXPECT_FALSE(FlagsInHelp("bench profile").empty());
  for (const std::string& name : FlagsInHelp("bench profile")) {
    EXPECT_TRUE(Parse({"bench", "profile", name + "=x"}).ok()) << name;
  }
  EXPECT_FALSE(FlagsInHelp("bench engine").empty());
  for (const std::string& name : FlagsInHelp("bench engine")) {
    EXPECT_TRUE(Parse({"bench", "engine", name + "=x"}).ok()) << name;
  }
  EXPECT_FALSE(FlagsInHelp("bench machine").empty());
  for (const std::string& name : FlagsInHelp("bench machine")) {
    EXPECT_TRUE(Parse({"bench", "machine", name + "=x"}).ok()) << name;
  }
}

// Every flag leads to a setting that exists.
TEST(CommandLineTest, NoFlagNamesASettingThatIsNotThere) {
  for (const std::string& name : FlagsInHelp("serve")) {
    const auto line = Parse({"serve", name + "=x"});
    ASSERT_TRUE(line.ok());
    DaemonConfig config;
    EXPECT_FALSE(absl::IsNotFound(ApplyOverrides(*line, config))) << name;
    for (const auto& change : line->overrides) {
      EXPECT_FALSE(absl::IsNotFound(OverrideSetting(change.setting, "x", config))) << name;
    }
  }
}

TEST(CommandLineTest, SlipsAreAnsweredWithTheNearestName) {
  EXPECT_THAT(Refusal({"serve", "--htpt", "x"}),
              AllOf(HasSubstr("unknown flag --htpt"), HasSubstr("did you mean --http?")));
  EXPECT_THAT(Refusal({"serve", "--no-such-flag"}), HasSubstr("unknown flag --no-such-flag"));
  EXPECT_THAT(Refusal({"sevre"}), HasSubstr("did you mean serve?"));
  EXPECT_THAT(Refusal({"serve", "--threads"}), HasSubstr("--threads needs a value"));
  EXPECT_THAT(Refusal({"serve", "model.gguf"}), HasSubstr("found `model.gguf`"));
  EXPECT_THAT(Refusal({}), HasSubstr("wanted a verb"));
  EXPECT_THAT(Refusal({"check-config"}), HasSubstr("takes one file"));
  EXPECT_THAT(Refusal({"check-config", "a", "b"}), HasSubstr("takes one file"));
  EXPECT_THAT(Refusal({"keys"}), HasSubstr("keys new --tenant NAME"));
  EXPECT_THAT(Refusal({"keys", "new"}), HasSubstr("--tenant NAME"));
  EXPECT_THAT(Refusal({"keys", "new", "--tenant"}), HasSubstr("--tenant NAME"));
  EXPECT_THAT(Refusal({"keys", "new", "--tennant", "a"}), HasSubstr("did you mean --tenant?"));
}

TEST(CommandLineTest, TheOtherVerbsAreRecognised) {
  EXPECT_EQ(Parse({"version"})->verb, Verb::kVersion);
  EXPECT_EQ(Parse({"--version"})->verb, Verb::kVersion);
  EXPECT_EQ(Parse({"help"})->verb, Verb::kHelp);
  EXPECT_EQ(Parse({"serve", "--help"})->verb, Verb::kHelp);
  EXPECT_EQ(Parse({"check-config", "--print-schema"})->verb, Verb::kPrintSchema);
  const auto check = Parse({"check-config", "f.yaml"});
  EXPECT_EQ(check->verb, Verb::kCheckConfig);
  EXPECT_EQ(check->config_path, "f.yaml");
  EXPECT_EQ(Parse({"keys", "new", "--tenant=blue"})->tenant, "blue");
  EXPECT_EQ(Parse({"keys", "new", "--tenant", "blue"})->tenant, "blue");
}

TEST(CommandLineTest, SimulateTakesArgumentsOfItsOwnAndServesSettings) {
  const auto line = Parse({"simulate", "--workload", "/w.csv", "--instances=4", "--running-max=9",
                           "--config", "/c.yaml"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->verb, Verb::kSimulate);
  EXPECT_EQ(line->config_path, "/c.yaml");
  ASSERT_EQ(line->arguments.size(), 2u);
  EXPECT_EQ(line->arguments[0].flag, "--workload");
  EXPECT_EQ(line->arguments[0].value, "/w.csv");
  EXPECT_EQ(line->arguments[1].value, "4");
  DaemonConfig config;
  ASSERT_TRUE(ApplyOverrides(*line, config).ok());
  EXPECT_EQ(config.scheduler.running_max, 9);
}

TEST(CommandLineTest, SimulateNeedsAWorkloadAndOpensNoPort) {
  EXPECT_THAT(Refusal({"simulate"}), HasSubstr("--workload FILE"));
  EXPECT_THAT(Refusal({"simulate", "--workload=/w", "--http=:0"}),
              HasSubstr("unknown flag --http"));
  EXPECT_THAT(Refusal({"simulate", "--worklaod=/w"}), HasSubstr("did you mean --workload?"));
}

TEST(CommandLineTest, BenchProfileSaysWhereToAndOfWhat) {
  const auto line = Parse({"bench", "profile", "--out=/p.json", "--threads=2"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->verb, Verb::kBenchProfile);
  EXPECT_EQ(line->arguments.at(0).value, "/p.json");
  EXPECT_EQ(line->overrides.at(0).setting, "engine.threads");
}

TEST(CommandLineTest, BenchEngineTakesTheEnginesSettingsAndItsOwnNumbers) {
  const auto line = Parse({"bench", "engine", "--model=/m.gguf", "--isa=avx2", "--prompt", "7"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->verb, Verb::kBenchEngine);
  EXPECT_EQ(line->overrides.at(0).setting, "model.path");
  EXPECT_EQ(line->overrides.at(1).setting, "engine.isa");
  EXPECT_EQ(line->arguments.at(0).flag, "--prompt");
  EXPECT_EQ(line->arguments.at(0).value, "7");
}

TEST(CommandLineTest, BenchMachineTakesThreadsAndWhetherAProgramReads) {
  const auto line = Parse({"bench", "machine", "--threads=2", "--json"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->verb, Verb::kBenchMachine);
  EXPECT_EQ(line->overrides.at(0).setting, "engine.threads");
  EXPECT_EQ(line->arguments.at(0).flag, "--json");
  EXPECT_THAT(Refusal({"bench", "machine", "--thread=2"}), HasSubstr("did you mean --threads?"));
}

TEST(CommandLineTest, BenchNamesWhatItKnows) {
  EXPECT_THAT(Refusal({"bench"}), HasSubstr("engine, machine, profile"));
  EXPECT_THAT(Refusal({"bench", "motor"}), HasSubstr("found `motor`"));
}

}  // namespace
}  // namespace holdfast
