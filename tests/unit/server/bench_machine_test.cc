#include "server/bench_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace holdfast {
namespace {

using testing::HasSubstr;

constexpr SpeedSamples kShort = {.count = 3, .length = absl::Microseconds(100)};

MachineSpeed MeasureBriefly(int32_t threads) {
  const auto speed = MeasureMachine({.threads = threads,
                                     .working_sets_bytes = {size_t{64} << 10, size_t{2} << 20},
                                     .samples = kShort});
  EXPECT_TRUE(speed.ok()) << speed.status();
  return speed.value_or(MachineSpeed{});
}

void ExpectPlausible(const Spread& spread) {
  EXPECT_GT(spread.lowest, 0.0);
  EXPECT_GE(spread.median, spread.lowest);
  EXPECT_GE(spread.highest, spread.median);
}

TEST(SpreadTest, IsTheMiddleAndTheEnds) {
  const Spread odd = SpreadOf({5.0, 1.0, 2.0});
  EXPECT_EQ(odd.median, 2.0);
  EXPECT_EQ(odd.lowest, 1.0);
  EXPECT_EQ(odd.highest, 5.0);
  EXPECT_EQ(SpreadOf({4.0, 1.0, 2.0, 9.0}).median, 3.0);
}

TEST(BenchMachineTest, EveryPathThatRunsHereHasItsPeaksByItsName) {
  const MachineSpeed speed = MeasureBriefly(2);
  std::set<std::string> named;
  for (const MachinePeak& peak : speed.peaks) {
    SCOPED_TRACE(peak.isa + " " + peak.numbers);
    ExpectPlausible(peak.one_thread);
    ASSERT_TRUE(peak.all_threads.has_value());
    ExpectPlausible(*peak.all_threads);
    EXPECT_TRUE(named.insert(peak.isa + " " + peak.numbers).second);
  }
  for (const Isa isa : kIsas) {
    for (const char* numbers : {" f32", " int8"}) {
      EXPECT_EQ(named.count(IsaName(isa) + std::string(numbers)), IsaSupported(isa) ? 1u : 0u);
    }
  }
}

TEST(BenchMachineTest, EveryWorkingSetIsReadByOneThreadAndByAll) {
  const MachineSpeed speed = MeasureBriefly(3);
  ASSERT_EQ(speed.reads.size(), 2u);
  EXPECT_EQ(speed.reads[1].working_set_bytes, size_t{2} << 20);
  for (const MachineReadSpeed& read : speed.reads) {
    ExpectPlausible(read.one_thread);
    ASSERT_TRUE(read.all_threads.has_value());
    ExpectPlausible(*read.all_threads);
  }
}

TEST(BenchMachineTest, OneThreadIsMeasuredOnceAndSaidTwiceToPrograms) {
  const MachineSpeed speed = MeasureBriefly(1);
  EXPECT_FALSE(speed.reads.at(0).all_threads.has_value());
  const auto json = nlohmann::json::parse(FormatMachineJson(speed), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["threads"], 1);
  const auto& read = json["reads"][0];
  EXPECT_EQ(read["working_set_bytes"], 64 << 10);
  EXPECT_GT(read["one_thread_bytes_per_second"]["median"], 0.0);
  EXPECT_EQ(read["all_threads_bytes_per_second"], read["one_thread_bytes_per_second"]);
  const auto& peak = json["peaks"].back();
  EXPECT_EQ(peak["isa"], IsaName(BestIsa()));
  EXPECT_GT(peak["one_thread_operations_per_second"]["median"], 0.0);
  EXPECT_EQ(peak["all_threads_operations_per_second"], peak["one_thread_operations_per_second"]);
}

TEST(BenchMachineTest, TheTextNamesPathsAndWorkingSets) {
  const std::string text = FormatMachineText(MeasureBriefly(2));
  EXPECT_THAT(text, HasSubstr("64 KiB"));
  EXPECT_THAT(text, HasSubstr("2 MiB"));
  EXPECT_THAT(text, HasSubstr("scalar int8"));
  EXPECT_THAT(text, HasSubstr("2 threads"));
}

}  // namespace
}  // namespace holdfast
