#include "workload/arrivals.h"

#include <cmath>

#include "gtest/gtest.h"
#include "trace_file.h"

namespace holdfast {
namespace {

constexpr int64_t kMany = 1'000'000;

struct Moments {
  double mean = 0, cv = 0;
};

Moments GapsOf(const std::vector<absl::Duration>& starts) {
  double sum = 0, squares = 0;
  for (size_t i = 1; i < starts.size(); ++i) {
    const double gap = absl::ToDoubleSeconds(starts[i] - starts[i - 1]);
    sum += gap;
    squares += gap * gap;
  }
  const auto count = static_cast<double>(starts.size() - 1);
  const double mean = sum / count;
  return {mean, std::sqrt(squares / count - mean * mean) / mean};
}

class GammaArrivalsTest : public testing::TestWithParam<double> {};

TEST_P(GammaArrivalsTest, AMillionGapsHaveTheMeanAndTheCvThatWereAskedForAndFitBack) {
  const double shape = GetParam();
  const ArrivalProcess process{.rate = 3, .cv = 1 / std::sqrt(shape)};
  const std::vector<absl::Duration> starts = DrawStarts(process, kMany + 1, 42);
  const Moments gaps = GapsOf(starts);
  EXPECT_NEAR(gaps.mean, 1.0 / 3, 0.01 / 3);
  EXPECT_NEAR(gaps.cv, process.cv, 0.02 * process.cv);
  const std::optional<ArrivalProcess> fitted = FitArrivals(starts);
  ASSERT_TRUE(fitted);
  EXPECT_NEAR(fitted->rate, 3, 0.03);
  EXPECT_NEAR(1 / (fitted->cv * fitted->cv), shape, 0.05 * shape);
}

INSTANTIATE_TEST_SUITE_P(Shapes, GammaArrivalsTest, testing::Values(0.25, 0.5, 1.0, 2.0, 16.0));

TEST(ArrivalsTest, CountsOfPoissonArrivalsVaryAsTheirMeanAndThoseOfBurstsMore) {
  for (const absl::Duration bin : {absl::Seconds(1), absl::Seconds(10)}) {
    const std::optional<double> poisson =
        DispersionIndex(DrawStarts({.rate = 5, .cv = 1}, 200'000, 1), bin);
    ASSERT_TRUE(poisson);
    EXPECT_NEAR(*poisson, 1, 0.05);
    const std::optional<double> bursty =
        DispersionIndex(DrawStarts({.rate = 5, .cv = 2}, 200'000, 1), bin);
    ASSERT_TRUE(bursty);
    EXPECT_GT(*bursty, 2);
  }
}

TEST(ArrivalsTest, AClockTicksEvenly) {
  const std::vector<absl::Duration> starts = DrawStarts({.rate = 4, .cv = 0}, 100, 1);
  EXPECT_LE(starts[0], absl::Milliseconds(250));
  for (size_t i = 1; i < starts.size(); ++i) {
    EXPECT_NEAR(absl::ToDoubleSeconds(starts[i] - starts[i - 1]), 0.25, 1e-9);
  }
}

// Ten thousand processes begun together: in their first second as many starts as in any other.
TEST(ArrivalsTest, ManyProcessesBegunTogetherDoNotBeginWithACommonBurst) {
  int first = 0, tenth = 0;
  for (uint64_t seed = 0; seed < 10'000; ++seed) {
    for (const absl::Duration start : DrawStarts({.rate = 0.5, .cv = 4}, 30, seed)) {
      if (start < absl::Seconds(1)) ++first;
      if (start >= absl::Seconds(9) && start < absl::Seconds(10)) ++tenth;
    }
  }
  EXPECT_NEAR(first, 5000, 800);
  EXPECT_NEAR(tenth, 5000, 800);
}

TEST(ArrivalsTest, TheSameSeedDrawsTheSameStartsAndAnotherOneOthers) {
  const ArrivalProcess process{.rate = 2, .cv = 3};
  EXPECT_EQ(DrawStarts(process, 100, 5), DrawStarts(process, 100, 5));
  EXPECT_NE(DrawStarts(process, 100, 5), DrawStarts(process, 100, 6));
}

TEST(ArrivalsTest, RetimingMovesStartsOnly) {
  Workload workload = WorkloadOf(
      "t_s,session,elapsed_s,model,request_tokens,response_tokens,log_type\n"
      "0,a,2,m,100,10,conversation\n5,,1,m,50,5,API\n9,a,2,m,200,10,conversation\n");
  const absl::Duration thought = workload.programs[0].turns[1].after;
  RetimeStarts({.rate = 100, .cv = 1}, 3, workload);
  EXPECT_LT(workload.programs[0].start, workload.programs[1].start);
  EXPECT_LT(workload.programs[1].start, absl::Seconds(1));
  EXPECT_EQ(workload.programs[0].turns[1].after, thought);
  ExpectSound(workload);
}

TEST(ArrivalsTest, SuperposedWorkloadsShareNothingButNames) {
  const Workload one = WorkloadOf(
      "{\"timestamp\":0,\"input_length\":600,\"output_length\":1,\"hash_ids\":[1,2]}\n"
      "{\"timestamp\":9000,\"input_length\":600,\"output_length\":1,\"hash_ids\":[1,3]}\n");
  const Workload both = Superpose(one, one, absl::Seconds(4));
  ASSERT_EQ(both.programs.size(), 4u);
  ExpectSound(both);
  const auto front = [&](size_t i) { return both.programs[i].turns[0].runs[0].id; };
  EXPECT_EQ(both.programs[1].start, absl::Seconds(4));
  EXPECT_EQ(front(0), front(2));  // what the first file shares
  EXPECT_EQ(front(1), front(3));  // what the second one shares
  EXPECT_NE(front(0), front(1));
  EXPECT_EQ(both.tenants, one.tenants);
}

TEST(ArrivalsTest, ProcessesThatCannotBeDrawnAreRefused) {
  EXPECT_TRUE(CheckArrivalProcess({.rate = 1, .cv = 0}).ok());
  EXPECT_FALSE(CheckArrivalProcess({.rate = 0}).ok());
  EXPECT_FALSE(CheckArrivalProcess({.rate = std::nan("")}).ok());
  EXPECT_FALSE(CheckArrivalProcess({.rate = 1, .cv = -1}).ok());
  EXPECT_FALSE(CheckArrivalProcess({.rate = 1, .cv = 1000}).ok());
}

TEST(ArrivalsTest, TooFewStartsFitNothing) {
  EXPECT_FALSE(FitArrivals({}));
  const std::vector<absl::Duration> at_once(5, absl::Seconds(1));
  EXPECT_FALSE(FitArrivals(at_once));
  EXPECT_FALSE(DispersionIndex(at_once, absl::Seconds(1)));
}

}  // namespace
}  // namespace holdfast
