// What options make of a trace.
#include "workload/workload_shape.h"

#include <set>

#include "config/base/concat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trace_file.h"

namespace holdfast {
namespace {

constexpr std::string_view kTicks =
    "t_s,context_tokens,generated_tokens\n"
    "100,10,1\n101,20,2\n102.5,30,3\n104,40,4\n108,50,5\n";

// A program whose prompts grow: 100, 250, 400, 700.
constexpr std::string_view kGrowing = R"(programs:
  - turns:
      - {prompt: 100, completion: 50, tool: ls}
      - {after: 1, prompt: 100, completion: 50}
      - {after: 2, prompt: 100, completion: 100}
      - {after: 3, prompt: 200, completion: 100}
)";

constexpr std::string_view kBlocks =
    "{\"timestamp\":0,\"input_length\":1200,\"output_length\":50,\"hash_ids\":[4,8,15]}\n"
    "{\"timestamp\":1,\"input_length\":1500,\"output_length\":7,\"hash_ids\":[4,8,16]}\n";

Workload ScenarioOf(std::string_view text, const WorkloadOptions& options) {
  return WorkloadOf(text, options, "scenario.yaml");
}

TEST(WorkloadShapeTest, AWindowTakesTheProgramsThatStartInItAndBeginsAtZero) {
  const Workload workload =
      WorkloadOf(kTicks, {.from = absl::Seconds(1), .until = absl::Seconds(4)});
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 2u);
  EXPECT_EQ(workload.programs[0].start, absl::ZeroDuration());
  EXPECT_EQ(workload.programs[1].start, absl::Milliseconds(1500));
  EXPECT_EQ(Dropped(workload, "outside_window"), 3);
}

TEST(WorkloadShapeTest, ARateScaleMovesStartsAndAThinkScaleWhatLiesInside) {
  const std::string two = std::string(kGrowing) + "  - {at: 60, turns: [{prompt: 1}]}\n";
  const Workload workload = ScenarioOf(two, {.rate_scale = 4, .think_scale = 0.5});
  EXPECT_EQ(workload.programs[1].start, absl::Seconds(15));
  EXPECT_EQ(workload.programs[0].turns[2].after, absl::Seconds(1));
}

TEST(WorkloadShapeTest, DrawnArrivalsTakeThePlaceOfTheFilesStarts) {
  const Workload workload = WorkloadOf(kTicks, {.arrivals = ArrivalProcess{.rate = 1000, .cv = 1}});
  ExpectSound(workload);
  EXPECT_LT(workload.programs.back().start, absl::Seconds(1));
  EXPECT_EQ(PromptTokens(workload.programs[3].turns[0]), 40);
}

TEST(WorkloadShapeTest, ALimitKeepsTheFirstPrograms) {
  const Workload workload = WorkloadOf(kTicks, {.programs_max = 2});
  ExpectSound(workload);
  EXPECT_EQ(workload.programs.size(), 2u);
  EXPECT_EQ(Dropped(workload, "beyond_limit"), 3);
}

TEST(WorkloadShapeTest, ScaledLengthsKeepWhatIsSharedAndWhatIsHistory) {
  const Workload blocks = WorkloadOf(kBlocks, {.length_scale = 0.125});
  ExpectSound(blocks);
  const std::vector<TokenRun>& one = blocks.programs[0].turns[0].runs;
  const std::vector<TokenRun>& other = blocks.programs[1].turns[0].runs;
  EXPECT_EQ(one[0].num_tokens, 64);
  EXPECT_EQ(one[1], other[1]);
  EXPECT_EQ(one[2].num_tokens, 22);
  EXPECT_EQ(blocks.programs[1].turns[0].completion_tokens, 1);

  const Workload growing = ScenarioOf(kGrowing, {.length_scale = 0.33});
  ExpectSound(growing);
  int64_t before = 0;
  for (const WorkloadTurn& turn : growing.programs[0].turns) {
    EXPECT_EQ(turn.kept_tokens, before);  // all of it, as unscaled
    before = PromptTokens(turn) + turn.completion_tokens;
  }
  ExpectSound(ScenarioOf(kGrowing, {.length_scale = 1000}));
}

TEST(WorkloadShapeTest, DroppingEndsAProgramBeforeItsFirstTurnThatIsTooLong) {
  const Workload workload = ScenarioOf(kGrowing, {.context_tokens = 400});
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 1u);
  EXPECT_EQ(workload.programs[0].turns.size(), 2u);
  EXPECT_EQ(Dropped(workload, "over_context"), 1);
  EXPECT_EQ(Dropped(workload, "after_over_context"), 1);
  EXPECT_TRUE(ScenarioOf(kGrowing, {.context_tokens = 20}).programs.empty());
}

TEST(WorkloadShapeTest, ClippingFitsEveryTurnAndKeepsItsEnd) {
  for (const int32_t context : {2, 3, 20, 100, 150, 300, 399, 500, 799}) {
    const Workload workload = ScenarioOf(
        kGrowing, {.context_tokens = context, .over_context = WorkloadOptions::OverContext::kClip});
    ExpectSound(workload);
    ASSERT_EQ(workload.num_turns(), 4) << context;
    EXPECT_GT(workload.counts.rows_clipped, 0) << context;
    for (const WorkloadTurn& turn : workload.programs[0].turns) {
      EXPECT_LE(PromptTokens(turn) + turn.completion_tokens, context);
    }
  }
  const Workload wide = ScenarioOf(
      kGrowing, {.context_tokens = 800, .over_context = WorkloadOptions::OverContext::kClip});
  EXPECT_EQ(wide.counts.rows_clipped, 0);
  const Workload close = ScenarioOf(
      kGrowing, {.context_tokens = 700, .over_context = WorkloadOptions::OverContext::kClip});
  EXPECT_EQ(close.counts.rows_clipped, 1);
  EXPECT_EQ(close.programs[0].turns[3].kept_tokens, 400);  // 100 fewer, the new part whole
}

TEST(WorkloadShapeTest, TenantsAreDealtByZipfWeights) {
  std::string text = "t_s,context_tokens,generated_tokens\n";
  for (int i = 0; i < 11'000; ++i) text.append(Concat(i, ".5,10,1\n"));
  const Workload workload = WorkloadOf(text, {.num_tenants = 3});
  ExpectSound(workload);
  std::vector<int> counts(3);
  for (const WorkloadProgram& program : workload.programs) {
    ++counts[static_cast<size_t>(program.tenant)];
  }
  EXPECT_NEAR(counts[0], 6000, 250);  // 6 : 3 : 2
  EXPECT_NEAR(counts[1], 3000, 250);
  EXPECT_NEAR(counts[2], 2000, 250);
}

TEST(WorkloadShapeTest, ASharedPrefixIsPutInOnlyWhereTheTraceDoesNotSayWhatIsShared) {
  const WorkloadOptions options{.shared_prefix_tokens = 25, .shared_prefix_families = 1};
  const Workload azure = WorkloadOf(kTicks, options);
  ExpectSound(azure);
  std::set<uint64_t> fronts;
  for (const WorkloadProgram& program : azure.programs) {
    fronts.insert(program.turns[0].runs[0].id);
  }
  EXPECT_EQ(fronts.size(), 1u);
  EXPECT_EQ(azure.programs[0].turns[0].runs[0].num_tokens, 10);  // no longer than its prompt
  EXPECT_EQ(azure.programs[3].turns[0].runs[0].num_tokens, 25);
  EXPECT_EQ(PromptTokens(azure.programs[3].turns[0]), 40);
  EXPECT_EQ(LinesOf(WorkloadOf(kBlocks, options)), LinesOf(WorkloadOf(kBlocks)));
}

TEST(WorkloadShapeTest, OptionsThatMakeNoSenseAreRefusedAllAtOnce) {
  const absl::Status check = CheckWorkloadOptions({.from = absl::Seconds(5),
                                                   .until = absl::Seconds(5),
                                                   .rate_scale = 0,
                                                   .length_scale = -1,
                                                   .context_tokens = 0,
                                                   .num_tenants = 0});
  for (const char* what : {"window", "rate scale", "length scale", "context", "tenants"}) {
    EXPECT_THAT(std::string(check.message()), testing::HasSubstr(what));
  }
  EXPECT_TRUE(CheckWorkloadOptions({}).ok());
  const TraceFile file(kTicks);
  EXPECT_FALSE(ReadWorkload(file.path(), {.rate_scale = 0}).ok());
}

}  // namespace
}  // namespace holdfast
