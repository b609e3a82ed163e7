#include "workload/scenario_reader.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trace_file.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

Workload ScenarioOf(std::string_view text, const WorkloadOptions& options = {}) {
  return WorkloadOf(text, options, "scenario.yaml");
}

std::string FaultsOf(std::string_view text) {
  const TraceFile file(text, "scenario.yaml");
  const absl::StatusOr<Workload> workload = ReadWorkload(file.path());
  EXPECT_FALSE(workload.ok()) << text;
  return std::string(workload.status().message());
}

constexpr std::string_view kWhole = R"(# who asks what
name: an agent beside a crowd
tenants: [alice, bob]
programs:
  - tenant: alice
    session: fixer
    at: [0, 30]
    turns:
      - prompt: [{run: instructions, tokens: 600}, 150]
        completion: 40
        tool: grep
      - {after: 2.5, prompt: 90, completion: 20, repeat: 2}
      - {after: 250ms, keep: 600, prompt: 10}
      - {after: 1m30s, keep: none, prompt: 10}
      - {keep: all}
  - tenant: bob
    offline: true
    repeat: 100
    arrivals: {process: gamma, rate: 5, cv: 2, start: 10}
    turns:
      - prompt: [{run: instructions, tokens: 300}, 50]
simulate: {anything: [at, all]}
expect:
  - whatever
)";

TEST(ScenarioReaderTest, ReadsHowLongAClientWaits) {
  const Workload workload = ScenarioOf(
      "programs:\n  - turns:\n      - {prompt: 10, patience: 1.5}\n      - {prompt: 1}\n");
  EXPECT_EQ(workload.programs[0].turns[0].patience, absl::Milliseconds(1500));
  EXPECT_EQ(workload.programs[0].turns[1].patience, std::nullopt);
}

TEST(ScenarioReaderTest, ReadsProgramsTurnsRepeatsAndArrivals) {
  const Workload workload = ScenarioOf(kWhole);
  ExpectSound(workload);
  EXPECT_EQ(workload.name, "an agent beside a crowd");
  EXPECT_EQ(workload.tenants, (std::vector<std::string>{"alice", "bob"}));
  ASSERT_EQ(workload.programs.size(), 102u);
  const WorkloadProgram& fixer = workload.programs[0];
  EXPECT_EQ(fixer.session, "fixer-1");
  EXPECT_EQ(fixer.start, absl::ZeroDuration());
  ASSERT_EQ(fixer.turns.size(), 6u);
  EXPECT_EQ(PromptTokens(fixer.turns[0]), 750);
  EXPECT_EQ(workload.tools[static_cast<size_t>(fixer.turns[0].tool.value())], "grep");
  EXPECT_EQ(fixer.turns[1].after, absl::Milliseconds(2500));
  EXPECT_EQ(fixer.turns[1].kept_tokens, 790);
  EXPECT_EQ(fixer.turns[2].kept_tokens, 900);
  EXPECT_EQ(fixer.turns[3].kept_tokens, 600);
  EXPECT_EQ(fixer.turns[3].after, absl::Milliseconds(250));
  EXPECT_EQ(fixer.turns[4].kept_tokens, 0);
  EXPECT_EQ(fixer.turns[4].after, absl::Seconds(90));
  EXPECT_TRUE(fixer.turns[5].runs.empty());
  EXPECT_EQ(fixer.turns[5].kept_tokens, 11);
  EXPECT_GE(workload.programs[1].start, absl::Seconds(10));
  EXPECT_TRUE(workload.programs[1].offline);
  EXPECT_EQ(workload.programs[1].tenant, 1);
}

TEST(ScenarioReaderTest, NamedRunsAreTheSameEverywhereAndFreshOnesNowhere) {
  const Workload workload = ScenarioOf(kWhole);
  const std::vector<TokenRun>& agent = workload.programs[0].turns[0].runs;
  const std::vector<TokenRun>& one = workload.programs[1].turns[0].runs;
  const std::vector<TokenRun>& other = workload.programs[2].turns[0].runs;
  EXPECT_EQ(agent[0].id, one[0].id);
  EXPECT_EQ(one[0], other[0]);
  EXPECT_NE(one[1].id, other[1].id);
}

TEST(ScenarioReaderTest, ArrivalsFollowTheirProcessAndTheSeed) {
  const std::string text = R"(programs:
  - {repeat: 1000, arrivals: {process: even, rate: 4}, turns: [{prompt: 5}]}
)";
  const Workload workload = ScenarioOf(text);
  EXPECT_EQ(workload.tenants, (std::vector<std::string>{"default"}));
  EXPECT_NEAR(absl::ToDoubleSeconds(workload.programs[999].start), 250, 0.5);
  EXPECT_EQ(LinesOf(workload), LinesOf(ScenarioOf(text)));
  EXPECT_NE(LinesOf(workload), LinesOf(ScenarioOf(text, {.seed = 2})));
}

TEST(ScenarioReaderTest, EveryFaultIsToldWithItsLineAndKey) {
  const std::string faults = FaultsOf(R"(programs:
  - tenant: alice
    turn: []
    repeat: 0
    turns:
      - {prompt: many, completion: -1}
      - {aftr: 2, prompt: 1}
      - {after: soon, prompt: [1, {run: x}]}
  - at: 3
    arrivals: {process: bursts, rate: 2, cv: 2}
    turns: []
  - [1]
)");
  EXPECT_THAT(faults, HasSubstr(":3: unknown key `programs[0].turn`; did you mean `turns`?"));
  EXPECT_THAT(faults, HasSubstr(":4: `programs[0].repeat` is `0`; wanted a whole number from 1"));
  EXPECT_THAT(faults, HasSubstr(":6: `programs[0].turns[0].prompt` is `many`"));
  EXPECT_THAT(faults, HasSubstr(":6: `programs[0].turns[0].completion` is `-1`"));
  EXPECT_THAT(faults, HasSubstr(":7: unknown key `programs[0].turns[1].aftr`; did you mean "
                                "`after`?"));
  EXPECT_THAT(faults, HasSubstr(":8: `programs[0].turns[2].after` is `soon`; wanted seconds"));
  EXPECT_THAT(faults, HasSubstr(":8: `programs[0].turns[2].prompt[1]` needs both"));
  EXPECT_THAT(faults, HasSubstr("`programs[1]` has both `at` and `arrivals`"));
  EXPECT_THAT(faults, HasSubstr(":10: `programs[1].arrivals.process` is `bursts`"));
  EXPECT_THAT(faults, HasSubstr(":11: `programs[1].turns` must be a list and not empty"));
  EXPECT_THAT(faults, HasSubstr(":12: `programs[2]` must hold `key: value` lines"));
}

TEST(ScenarioReaderTest, WhatCannotBeIsRefused) {
  EXPECT_THAT(FaultsOf("programs:\n - turns: [{after: 1, prompt: 3}]\n"), HasSubstr("first turn"));
  EXPECT_THAT(FaultsOf("programs:\n - turns: [{completion: 3}]\n"),
              HasSubstr("prompt` is missing"));
  EXPECT_THAT(FaultsOf("programs:\n - turns: [{prompt: 3}, {keep: 5, prompt: 1}]\n"),
              HasSubstr("turn 2 keeps more than there is"));
  EXPECT_THAT(FaultsOf("tenants: [a]\nprograms:\n - {tenant: b, turns: [{prompt: 3}]}\n"),
              HasSubstr("one of the names in `tenants`"));
  EXPECT_THAT(FaultsOf("programs:\n - {at: [1, 2], repeat: 3, turns: [{prompt: 3}]}\n"),
              HasSubstr("the list says how often"));
  EXPECT_THAT(FaultsOf("name: x\n"), HasSubstr("`programs` is missing"));
  EXPECT_THAT(FaultsOf("programs: [{turns: [{prompt: 3}]}]\n---\nprograms: []\n"),
              HasSubstr("several YAML documents"));
  EXPECT_THAT(FaultsOf("programs: [}\n"), HasSubstr("not YAML"));
  EXPECT_THAT(FaultsOf("programs:\n - {repeat: 5000000, turns: [{prompt: 3, repeat: 5000000}]}\n"),
              HasSubstr(":2: `programs[0]` brings the scenario above 5000000 turns"));
}

TEST(ScenarioReaderTest, AFewAliasesCannotStandForVeryMany) {
  std::string text = "programs:\n - &p\n   turns: &t\n";
  for (int i = 0; i < 20'000; ++i) text.append("    - {prompt: 1}\n");
  for (int i = 0; i < 20'000; ++i) text.append(" - *p\n");
  EXPECT_THAT(FaultsOf(text), HasSubstr("too large"));
}

}  // namespace
}  // namespace holdfast
