// BurstGPT's CSV files. The tests G1, G2 and G8 are those of our notes on that trace.
#include <cmath>

#include "config/base/concat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trace_file.h"
#include "workload/random_source.h"
#include "workload/token_runs.h"

namespace holdfast {
namespace {

constexpr std::string_view kSixColumns =
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "3,ChatGPT,400,20,420,Conversation log\n"
    "17,GPT-4,1000,231,1231,API log\n"
    "17,ChatGPT,0,0,0,API log\n"
    "21,GPT-4,77,0,77,Conversation log\n"
    "29.5,GPT-4,90,8,98,API log\n";

constexpr std::string_view kEightColumns =
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "10,7,4,ChatGPT,100,50,150,Conversation log\n"
    "11,,9,GPT-4,300,30,330,API log\n"
    "40,7,5,ChatGPT,220,10,230,Conversation log\n"
    "60,7,,ChatGPT,30,10,40,Conversation log\n"
    "61,7,2,ChatGPT,30,12,42,Conversation log\n";

TEST(BurstGptTest, G1BothLayoutsAreReadByColumnNameAndEveryRowIsAccountedFor) {
  const Workload six = WorkloadOf(kSixColumns);
  ExpectSound(six);
  ASSERT_EQ(six.programs.size(), 3u);
  EXPECT_EQ(six.counts.rows_read, 5);
  EXPECT_EQ(Dropped(six, "zero_input"), 1);
  EXPECT_EQ(Dropped(six, "zero_output"), 1);
  EXPECT_EQ(PromptTokens(six.programs[1].turns[0]), 1000);
  EXPECT_EQ(six.programs[1].turns[0].completion_tokens, 231);
  EXPECT_EQ(six.programs[2].start, absl::Milliseconds(26500));

  const Workload eight = WorkloadOf(kEightColumns);
  ExpectSound(eight);
  ASSERT_EQ(eight.programs.size(), 2u);
  EXPECT_EQ(eight.programs[0].session, "7");
  EXPECT_EQ(eight.programs[0].turns.size(), 4u);
  EXPECT_EQ(eight.programs[1].session, "");
}

TEST(BurstGptTest, G1OddFilesAreReadToo) {
  const Workload workload = WorkloadOf(
      "\xEF\xBB\xBFLog Type,unknown,Response tokens,Request tokens,Timestamp,Model\r\n"
      "API log,\"a,b\",5.0,10,1.5,GPT-4\r\n"
      "\r\n"
      "API log,x,-5,10,2,GPT-4\r\n"
      "API log,x,5,ten,2,GPT-4\r\n"
      "API log,x,5,10,nan,GPT-4\r\n"
      "API log,x,5,10,-1,GPT-4\r\n"
      "API log,x,5\r\n"
      "API log,x,5,1e300,2,GPT-4\r\n"
      "API log,x,5,11,3,GPT-4");
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 2u);
  EXPECT_EQ(workload.counts.rows_read, 8);
  EXPECT_EQ(PromptTokens(workload.programs[0].turns[0]), 10);
  EXPECT_EQ(workload.programs[0].turns[0].completion_tokens, 5);
  EXPECT_EQ(Dropped(workload, "bad_number"), 4);
  EXPECT_EQ(Dropped(workload, "negative_time"), 1);
  EXPECT_EQ(Dropped(workload, "bad_row"), 1);
}

TEST(BurstGptTest, G2ReplayHasTheArrivalsAndLengthsOfTheFileToTheMicrosecond) {
  std::string text = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n";
  RandomSource random(11);
  double at = 1000;
  std::vector<double> stamps;
  std::vector<int> inputs, outputs;
  for (int i = 0; i < 2000; ++i) {
    at += std::round(random.Exponential() * 1e6) / 1e6;
    stamps.push_back(at);
    inputs.push_back(1 + static_cast<int>(random.Uniform() * 5000));
    outputs.push_back(1 + static_cast<int>(random.Uniform() * 900));
    char row[100];
    std::snprintf(row, sizeof(row), "%.6f,GPT-4,%d,%d,0,API log\n", at, inputs.back(),
                  outputs.back());
    text.append(row);
  }
  const Workload workload = WorkloadOf(text);
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), stamps.size());
  for (size_t i = 0; i < stamps.size(); ++i) {
    const WorkloadProgram& program = workload.programs[i];
    EXPECT_NEAR(absl::ToDoubleSeconds(program.start), stamps[i] - stamps[0], 1e-6);
    EXPECT_EQ(PromptTokens(program.turns[0]), inputs[i]);
    EXPECT_EQ(program.turns[0].completion_tokens, outputs[i]);
  }
}

TEST(BurstGptTest, G8TheSameSeedGivesTheSameLinesAndAnotherOneOthers) {
  std::string text(kSixColumns);
  for (int i = 0; i < 20; ++i) text.append("30,ChatGPT,40,2,42,API log\n");
  WorkloadOptions options{.seed = 5, .num_tenants = 3};
  const std::string lines = LinesOf(WorkloadOf(text, options));
  EXPECT_EQ(lines, LinesOf(WorkloadOf(text, options)));
  EXPECT_EQ(lines, LinesOf(WorkloadOf(Gzipped(text), options)));
  options.seed = 6;
  EXPECT_NE(lines, LinesOf(WorkloadOf(text, options)));
}

TEST(BurstGptTest, ATurnKeepsItsHistoryIfItIsLongEnoughAndBeginsAnewOtherwise) {
  const Workload workload = WorkloadOf(kEightColumns);
  const std::vector<WorkloadTurn>& turns = workload.programs[0].turns;
  ASSERT_EQ(turns.size(), 4u);
  EXPECT_EQ(turns[0].kept_tokens, 0);
  EXPECT_EQ(turns[1].kept_tokens, 150);  // 220 tokens hold 100 + 50
  EXPECT_EQ(turns[1].runs[0].num_tokens, 70);
  EXPECT_EQ(turns[2].kept_tokens, 0);            // 30 tokens do not hold 230
  EXPECT_EQ(turns[3].kept_tokens, 0);            // nor 30 + 10
  EXPECT_EQ(turns[1].after, absl::Seconds(26));  // 40 - (10 + 4)
  EXPECT_EQ(turns[2].after, absl::Seconds(15));
  EXPECT_EQ(turns[3].after, absl::Seconds(1));  // an empty elapsed time is none
  EXPECT_THAT(workload.assumptions, testing::Contains(testing::HasSubstr("history=assumed: 1 ")));
}

TEST(BurstGptTest, ATurnStampedBeforeItsPredecessorEndedFollowsItAtOnce) {
  const Workload workload = WorkloadOf(
      "t_s,session,elapsed_s,model,request_tokens,response_tokens,log_type\n"
      "0,c1,43,GPT-4,906,446,conversation\n20,c1,5,GPT-4,2000,10,conversation\n");
  ASSERT_EQ(workload.programs.size(), 1u);
  EXPECT_EQ(workload.programs[0].turns[1].after, absl::ZeroDuration());
  EXPECT_THAT(workload.assumptions, testing::Contains(testing::HasSubstr("follow it at once")));
}

TEST(BurstGptTest, RequestsThatShareAWholeSecondAreSpreadOverItInTheirOrder) {
  std::string text = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n";
  for (int i = 1; i <= 50; ++i) text.append(Concat("5,GPT-4,", i, ",1,1,API log\n"));
  text.append("6,GPT-4,51,1,52,API log\n");
  const Workload spread = WorkloadOf(text);
  ExpectSound(spread);
  ASSERT_EQ(spread.programs.size(), 51u);
  for (size_t i = 0; i < 51; ++i) {
    EXPECT_EQ(PromptTokens(spread.programs[i].turns[0]), static_cast<int64_t>(i) + 1);
  }
  const absl::Duration wide = spread.programs[49].start - spread.programs[0].start;
  EXPECT_GT(wide, absl::Milliseconds(800));
  EXPECT_LT(wide, absl::Seconds(1));

  const Workload together = WorkloadOf(text, {.stamps = WorkloadOptions::Stamps::kAsWritten});
  EXPECT_EQ(together.programs[49].start, absl::ZeroDuration());
  EXPECT_EQ(together.programs[50].start, absl::Seconds(1));
}

TEST(BurstGptTest, StampsWithFractionsAreNotSpread) {
  const Workload workload = WorkloadOf(
      "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
      "5,m,1,1,2,API log\n5,m,1,1,2,API log\n7.5,m,1,1,2,API log\n");
  EXPECT_EQ(workload.programs[1].start, absl::ZeroDuration());
}

TEST(BurstGptTest, NoTwoRequestsShareAnInventedPrefix) {
  const Workload workload = WorkloadOf(kSixColumns);
  absl::StatusOr<TokenRuns> runs = TokenRuns::Make({.vocabulary = 49152});
  ASSERT_TRUE(runs.ok());
  std::vector<TokenId> one, other;
  runs->Append(workload.programs[0].turns[0].runs, one);
  runs->Append(workload.programs[1].turns[0].runs, other);
  EXPECT_NE(one[0], other[0]);
}

TEST(BurstGptTest, RowsOfOtherModelsOrLogTypesCanBeLeftOut) {
  const Workload workload = WorkloadOf(kEightColumns, {.only_log_type = "api"});
  ExpectSound(workload);
  EXPECT_EQ(workload.programs.size(), 1u);
  EXPECT_EQ(Dropped(workload, "filtered"), 4);
  EXPECT_EQ(WorkloadOf(kSixColumns, {.only_model = "ChatGPT"}).programs.size(), 1u);
}

TEST(BurstGptTest, FailedRequestsCanBeKeptForOneToken) {
  const Workload workload =
      WorkloadOf(kSixColumns, {.failures = WorkloadOptions::Failures::kOneToken});
  ExpectSound(workload);
  EXPECT_EQ(Dropped(workload, "zero_output"), 0);
  ASSERT_EQ(workload.programs.size(), 4u);
  EXPECT_EQ(workload.programs[2].turns[0].completion_tokens, 1);
}

}  // namespace
}  // namespace holdfast
