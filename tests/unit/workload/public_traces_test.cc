// Reads the public traces themselves, where they lie in the folder HOLDFAST_TRACES (one folder a
// source: mooncake/, azure2023/, ...), and compares with what was counted in them otherwise.
// Skipped without that folder.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trace_file.h"

namespace holdfast {
namespace {

class PublicTracesTest : public testing::Test {
 protected:
  // Sets workload_. Skips the test if the file is not there.
  void Read(const std::string& name, const WorkloadOptions& options = {}) {
    const char* folder = std::getenv("HOLDFAST_TRACES");
    if (folder == nullptr || !std::filesystem::exists(folder + ("/" + name))) {
      GTEST_SKIP() << "no " << name << " in $HOLDFAST_TRACES";
    }
    const absl::StatusOr<Workload> workload = ReadWorkload(folder + ("/" + name), options);
    ASSERT_TRUE(workload.ok()) << workload.status();
    workload_ = *workload;
    ExpectSound(workload_);
  }

  std::vector<absl::Duration> Starts() const {
    std::vector<absl::Duration> starts;
    for (const WorkloadProgram& program : workload_.programs) starts.push_back(program.start);
    return starts;
  }
  // The most starts in one bin of this width, bins counted from zero.
  int64_t MostIn(absl::Duration bin) const {
    std::map<int64_t, int64_t> counts;
    for (const absl::Duration start : Starts()) {
      ++counts[static_cast<int64_t>(absl::FDivDuration(start, bin))];
    }
    int64_t most = 0;
    for (const auto& [at, count] : counts) most = std::max(most, count);
    return most;
  }

  // The share of prompt tokens whose leading runs were all seen before.
  double PrefixHit() const {
    std::set<uint64_t> seen;
    int64_t tokens = 0, hits = 0;
    for (const WorkloadProgram& program : workload_.programs) {
      bool is_hit = true;
      for (const TokenRun& run : program.turns[0].runs) {
        is_hit = is_hit && seen.count(run.id) > 0;
        tokens += run.num_tokens;
        hits += is_hit ? run.num_tokens : 0;
      }
      for (const TokenRun& run : program.turns[0].runs) seen.insert(run.id);
    }
    return static_cast<double>(hits) / static_cast<double>(tokens);
  }

  // At 5, 25, 50, 75 and 95 %, and the most.
  static std::vector<double> Quantiles(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    std::vector<double> quantiles;
    for (const double at : {0.05, 0.25, 0.5, 0.75, 0.95}) {
      quantiles.push_back(values[static_cast<size_t>(at * static_cast<double>(values.size()))]);
    }
    quantiles.push_back(values.back());
    return quantiles;
  }
  std::vector<double> CallsPerSession() const {
    std::vector<double> calls;
    for (const WorkloadProgram& program : workload_.programs) {
      calls.push_back(static_cast<double>(program.turns.size()));
    }
    return Quantiles(calls);
  }
  std::vector<double> Waits() const {
    std::vector<double> waits;
    for (const WorkloadProgram& program : workload_.programs) {
      for (size_t i = 1; i < program.turns.size(); ++i) {
        waits.push_back(absl::ToDoubleSeconds(program.turns[i].after));
      }
    }
    return Quantiles(waits);
  }
  double MeanPrompt() const {
    double tokens = 0;
    for (const WorkloadProgram& program : workload_.programs) {
      for (const WorkloadTurn& turn : program.turns) {
        tokens += static_cast<double>(PromptTokens(turn));
      }
    }
    return tokens / static_cast<double>(workload_.num_turns());
  }

  Workload workload_;
};

#define READ_OR_SKIP(...) \
  Read(__VA_ARGS__);      \
  if (IsSkipped() || HasFatalFailure()) return

TEST_F(PublicTracesTest, MooncakeConversation) {
  READ_OR_SKIP("mooncake/conversation_first.jsonl.gz");
  EXPECT_EQ(workload_.programs.size(), 5719u);
  EXPECT_EQ(workload_.counts.rows_read, 5719);
  EXPECT_NEAR(absl::ToDoubleSeconds(workload_.programs.back().start), 1797, 1);
  EXPECT_NEAR(MeanPrompt(), 12'870, 1);
  EXPECT_NEAR(PrefixHit(), 0.347, 0.0005);
  std::set<uint64_t> blocks;
  for (const WorkloadProgram& program : workload_.programs) {
    for (const TokenRun& run : program.turns[0].runs) blocks.insert(run.id);
  }
  EXPECT_EQ(blocks.size(), 96'534u);
}

TEST_F(PublicTracesTest, MooncakeSynthetic) {
  READ_OR_SKIP("mooncake/synthetic_first.jsonl.gz");
  EXPECT_EQ(workload_.programs.size(), 1925u);
  EXPECT_NEAR(PrefixHit(), 0.322, 0.0005);
}

TEST_F(PublicTracesTest, RtpOnline) {
  READ_OR_SKIP("rtp-online/first420s.jsonl.gz");
  EXPECT_EQ(workload_.counts.rows_read, 3881);
  EXPECT_EQ(Dropped(workload_, "zero_output"), 1816);
  Read("rtp-online/first420s.jsonl.gz", {.failures = WorkloadOptions::Failures::kOneToken});
  EXPECT_EQ(workload_.programs.size(), 3881u);
  EXPECT_NEAR(PrefixHit(), 0.178, 0.0005);
  EXPECT_NEAR(DispersionIndex(Starts(), absl::Seconds(1)).value(), 1.42, 0.005);
  EXPECT_NEAR(DispersionIndex(Starts(), absl::Seconds(10)).value(), 4.81, 0.005);
}

TEST_F(PublicTracesTest, AzureCode) {
  READ_OR_SKIP("azure2023/code_first30min.csv.gz");
  EXPECT_EQ(workload_.programs.size(), 5740u);
  EXPECT_EQ(MostIn(absl::Seconds(1)), 67);
  EXPECT_EQ(MostIn(absl::Seconds(10)), 327);
  EXPECT_NEAR(DispersionIndex(Starts(), absl::Seconds(1)).value(), 13.89, 0.005);
  EXPECT_NEAR(DispersionIndex(Starts(), absl::Seconds(10)).value(), 75.34, 0.005);
}

TEST_F(PublicTracesTest, AzureConversation) {
  READ_OR_SKIP("azure2023/conv_first30min.csv.gz");
  EXPECT_EQ(workload_.programs.size(), 10'108u);
  EXPECT_EQ(MostIn(absl::Seconds(1)), 15);
  EXPECT_NEAR(DispersionIndex(Starts(), absl::Seconds(10)).value(), 3.15, 0.05);
}

TEST_F(PublicTracesTest, BurstGptSessions) {
  READ_OR_SKIP("burstgpt3/chat_sessions.csv");
  EXPECT_EQ(workload_.counts.rows_read, 107);
  std::set<std::string> sessions;
  for (const WorkloadProgram& program : workload_.programs) sessions.insert(program.session);
  EXPECT_EQ(sessions.size(), 49u);  // 48, and the empty name
  EXPECT_EQ(workload_.programs.size(), 48u + 6);
  EXPECT_NEAR(Waits()[2], 140, 30);
}

TEST_F(PublicTracesTest, AgentSteps) {
  READ_OR_SKIP("agent-iso-bench/steps.jsonl.gz");
  EXPECT_EQ(workload_.programs.size(), 186u);
  EXPECT_EQ(workload_.num_turns(), 9357);
  EXPECT_EQ(CallsPerSession(), (std::vector<double>{11, 25, 42, 58, 103, 400}));
  EXPECT_NEAR(Waits()[2], 0.03, 0.0005);
  EXPECT_NEAR(Waits()[4], 2.608, 0.0005);
  EXPECT_NEAR(Waits()[5], 120.016, 0.0005);
  EXPECT_THAT(workload_.assumptions,
              testing::Contains(testing::HasSubstr("198 prompts are shorter")));
}

TEST_F(PublicTracesTest, AgentStepsOfASlowHost) {
  READ_OR_SKIP("agent-iso-bench/steps_slow_host.jsonl.gz");
  EXPECT_EQ(workload_.programs.size(), 50u);
  EXPECT_EQ(workload_.num_turns(), 2237);
  EXPECT_NEAR(Waits()[3], 18.4, 0.5);
}

TEST_F(PublicTracesTest, AgentCalls) {
  READ_OR_SKIP("agent-swebench-mini/calls.jsonl.gz");
  EXPECT_EQ(workload_.programs.size(), 300u);
  EXPECT_EQ(workload_.num_turns(), 11'611);
  EXPECT_EQ(CallsPerSession(), (std::vector<double>{19, 27, 35, 46, 80, 132}));
}

TEST_F(PublicTracesTest, AgentLog) {
  READ_OR_SKIP("agent-exgentic/calls.jsonl.gz");
  EXPECT_EQ(workload_.programs.size(), 12u);
  EXPECT_EQ(workload_.num_turns(), 113);
}

TEST_F(PublicTracesTest, AgentEvents) {
  READ_OR_SKIP("agent-openhands/events.jsonl.gz");
  EXPECT_EQ(workload_.programs.size(), 2u);
  EXPECT_EQ(workload_.num_turns(), 23 + 33);
  EXPECT_EQ(PromptTokens(workload_.programs[0].turns.back()), 33'459);
  EXPECT_NEAR(Waits()[4], 0.616, 0.005);  // shell calls
  EXPECT_NEAR(Waits()[1], 0.005, 0.001);  // reads and edits
}

// 81 % of the prompts' characters repeat an earlier prefix, counted in blocks of 512 characters; in
// blocks of 64 bytes it is 83 %.
TEST_F(PublicTracesTest, AgentTexts) {
  READ_OR_SKIP("agent-magentic/calls.jsonl.xz");
  EXPECT_EQ(workload_.programs.size(), 15u);
  EXPECT_EQ(workload_.counts.rows_read, 456);
  EXPECT_EQ(Dropped(workload_, "zero_input"), 23);
  EXPECT_EQ(workload_.num_turns(), 433);
  std::set<uint64_t> seen;
  int64_t tokens = 0, hits = 0;
  for (const WorkloadProgram& program : workload_.programs) {
    for (const WorkloadTurn& turn : program.turns) {
      tokens += PromptTokens(turn);
      hits += turn.kept_tokens;
      for (const TokenRun& run : turn.runs) {  // its id stands for all before it too
        if (!seen.insert(run.id).second) hits += run.num_tokens;
      }
    }
  }
  EXPECT_NEAR(static_cast<double>(hits) / static_cast<double>(tokens), 0.83, 0.01);
}

TEST_F(PublicTracesTest, Dialogues) {
  READ_OR_SKIP("agent-tau2/retail.jsonl.gz");
  EXPECT_EQ(workload_.programs.size(), 24u);
  EXPECT_EQ(workload_.num_turns(), 281);
}

TEST_F(PublicTracesTest, ClientRates) {
  READ_OR_SKIP("servegen/m-large_day2.jsonl.gz",
               {.from = absl::Hours(10), .until = absl::Hours(11), .rate_scale = 0.1});
  EXPECT_EQ(Dropped(workload_, "no_lengths"), 14);
  EXPECT_EQ(workload_.tenants.size(), 88u);
  EXPECT_NEAR(static_cast<double>(workload_.programs.size()), 12.54 * 3600, 4000);
}

}  // namespace
}  // namespace holdfast
