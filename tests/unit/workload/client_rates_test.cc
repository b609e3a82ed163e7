// Clients' statistics: what is drawn from them has their rates, bursts and lengths.
#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "trace_file.h"

namespace holdfast {
namespace {

// Two windows of 1000 s; `even` sends 2/s and 6/s, `bursty` 1/s and nothing.
constexpr std::string_view kClients =
    R"({"meta":true,"model":"m","day":1,"window_s":1000,"token_window_s":1000,)"
    R"("quantiles":[0.1,0.5,0.9]})"
    "\n"
    R"({"client":"even","rate":[2,6],"cv":[1,0],"tokens":{)"
    R"("0":{"input_tokens":[100,200,1000],"output_tokens":[10,20,30]},)"
    R"("1000":{"input_tokens":[5000,6000,7000],"output_tokens":[1,1,1]}}})"
    "\n"
    R"({"client":"bursty","rate":[1,0],"cv":[4,1],"tokens":{)"
    R"("0":{"input_tokens":[50,50,50],"output_tokens":[7,7,7]}}})"
    "\n"
    R"({"client":"unknown","rate":[9,9],"cv":[1,1],"tokens":{}})"
    "\n"
    R"({"client":"broken","rate":[9,-9],"cv":[1,1],"tokens":{}})"
    "\n"
    R"({"client":"falling","rate":[9,9],"cv":[1,1],"tokens":{)"
    R"("0":{"input_tokens":[50,40,50],"output_tokens":[7,7,7]}}})"
    "\n";

std::vector<const WorkloadProgram*> Of(const Workload& workload, std::string_view tenant) {
  std::vector<const WorkloadProgram*> found;
  for (const WorkloadProgram& program : workload.programs) {
    if (workload.tenants[static_cast<size_t>(program.tenant)] == tenant) found.push_back(&program);
  }
  return found;
}

TEST(ClientRatesTest, EachClientIsATenantAndSendsAtItsRates) {
  const Workload workload = WorkloadOf(kClients);
  ExpectSound(workload);
  EXPECT_EQ(workload.tenants, (std::vector<std::string>{"even", "bursty"}));
  EXPECT_EQ(Dropped(workload, "no_lengths"), 1);
  EXPECT_EQ(Dropped(workload, "bad_row"), 1);
  EXPECT_EQ(Dropped(workload, "bad_number"), 1);
  int first = 0, second = 0;
  for (const WorkloadProgram* program : Of(workload, "even")) {
    ++(program->start < absl::Seconds(1000) ? first : second);
  }
  EXPECT_NEAR(first, 2000, 180);  // four deviations
  EXPECT_NEAR(second, 6000, 310);
  const auto bursty = Of(workload, "bursty");
  EXPECT_NEAR(static_cast<double>(bursty.size()), 1000, 500);
  EXPECT_LT(bursty.back()->start, absl::Seconds(1000));
}

TEST(ClientRatesTest, BurstsAndLengthsAreThoseOfTheStatistics) {
  std::string text(kClients.substr(0, kClients.find('\n') + 1));
  text.append(R"({"client":"c","rate":[50],"cv":[3],"tokens":{)"
              R"("0":{"input_tokens":[100,200,1000],"output_tokens":[10,20,30]}}})");
  const Workload workload = WorkloadOf(text);
  std::vector<absl::Duration> starts;
  std::vector<int64_t> inputs;
  for (const WorkloadProgram& program : workload.programs) {
    starts.push_back(program.start);
    inputs.push_back(PromptTokens(program.turns[0]));
  }
  const std::optional<ArrivalProcess> fitted = FitArrivals(starts);
  ASSERT_TRUE(fitted);
  EXPECT_NEAR(fitted->cv, 3, 0.3);
  std::sort(inputs.begin(), inputs.end());
  const auto quantile = [&](double at) {
    return static_cast<double>(
        inputs[static_cast<size_t>(at * static_cast<double>(inputs.size()))]);
  };
  EXPECT_NEAR(quantile(0.5), 200, 5);
  EXPECT_NEAR(quantile(0.3), 150, 5);  // straight between 0.1 and 0.5
  EXPECT_NEAR(quantile(0.7), 600, 25);
  EXPECT_EQ(inputs.front(), 100);  // nothing is known of the tails
  EXPECT_EQ(inputs.back(), 1000);
}

TEST(ClientRatesTest, ARateScaleChangesRatesAndNotTheDay) {
  const Workload workload = WorkloadOf(kClients, {.rate_scale = 10});
  EXPECT_NEAR(static_cast<double>(Of(workload, "even").size()), 80'000, 1200);
  EXPECT_LT(workload.programs.back().start, absl::Seconds(2000));
  EXPECT_GT(workload.programs.back().start, absl::Seconds(1990));
}

TEST(ClientRatesTest, AWindowDrawsThatPartOfTheDayOnlyAndBeginsAtZero) {
  const Workload workload =
      WorkloadOf(kClients, {.from = absl::Seconds(1200), .until = absl::Seconds(1300)});
  ExpectSound(workload);
  EXPECT_NEAR(static_cast<double>(workload.programs.size()), 600, 100);
  EXPECT_LT(workload.programs.front().start, absl::Seconds(5));
  EXPECT_LT(workload.programs.back().start, absl::Seconds(100));
  EXPECT_GE(PromptTokens(workload.programs[0].turns[0]), 5000);  // of the second token window
}

TEST(ClientRatesTest, OneClientsDrawsDoNotDependOnTheOthers) {
  const std::string text(kClients);
  const size_t second = text.find(R"({"client":"bursty")");
  const size_t third = text.find(R"({"client":"unknown")");
  const Workload all = WorkloadOf(text);
  const Workload one = WorkloadOf(text.substr(0, second) + text.substr(third));
  const auto starts = [](const std::vector<const WorkloadProgram*>& programs) {
    std::vector<absl::Duration> starts;
    for (const WorkloadProgram* program : programs) starts.push_back(program->start);
    return starts;
  };
  EXPECT_EQ(starts(Of(all, "even")), starts(Of(one, "even")));
}

TEST(ClientRatesTest, MoreRequestsThanFitAreRefusedAndALimitTakesTheFirst) {
  const TraceFile file(kClients);
  EXPECT_EQ(ReadWorkload(file.path(), {.rate_scale = 1e5}).status().code(),
            absl::StatusCode::kInvalidArgument);
  const Workload first = WorkloadOf(kClients, {.rate_scale = 1e5, .programs_max = 1000});
  ExpectSound(first);
  EXPECT_EQ(first.programs.size(), 1000u);
}

TEST(ClientRatesTest, AFileWithoutItsLayoutIsRefused) {
  const TraceFile file(R"({"client":"a","rate":[1],"cv":[1],"tokens":{}})");
  EXPECT_FALSE(ReadWorkload(file.path(), {.kind = WorkloadKind::kClientRates}).ok());
}

}  // namespace
}  // namespace holdfast
