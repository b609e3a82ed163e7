// When a sequence asks the remote tier, how long it waits, and who passes meanwhile.
#include <memory>

#include "gtest/gtest.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

class SchedulerLookupTest : public testing::Test {
 protected:
  SchedulerLookupTest() {
    SchedulerOptions options;
    options.lookup_wait = absl::Seconds(1);
    // Nothing is sent: what ends here is offered when the server is away.
    options.kv.remote_usable = [this] { return usable_; };
    bench_ = std::make_unique<SchedulerBench>(FakeEngineOptions{}, options);
  }
  // Plans, and takes the questions.
  bool Plan() {
    const bool planned = bench_->Plan();
    bench_->scheduler->TakeLookups(asked_);
    return planned;
  }
  double Lookups(const std::string& result) {
    const std::string line = "holdfast_kvstore_remote_lookups_total{result=\"" + result + "\"} ";
    const std::string text = bench_->registry.Serialize();
    const size_t at = text.find(line);
    return at == std::string::npos ? -1 : std::stod(text.substr(at + line.size()));
  }
  void RunToEnd() {
    usable_ = false;
    bench_->RunToEnd();
  }

  bool usable_ = true;
  std::unique_ptr<SchedulerBench> bench_;
  std::vector<RemoteLookup> asked_;
};

TEST_F(SchedulerLookupTest, ItWaitsForTheAnswerWhileAShortPromptPasses) {
  bench_->Submit(MakeRequest(1, MakePrompt(120, 1), 1));
  bench_->Submit(MakeRequest(2, MakePrompt(20, 2), 1));
  ASSERT_TRUE(Plan());
  ASSERT_EQ(asked_.size(), 1u);
  EXPECT_EQ(asked_[0].tokens.size(), 112u);
  ASSERT_EQ(bench_->plan.sequences.size(), 1u);
  EXPECT_EQ(bench_->plan.sequences[0].num_tokens, 20);
  bench_->scheduler->OnRemoteFound({.id = asked_[0].id});
  bench_->Finish();
  usable_ = false;
  ASSERT_TRUE(Plan());
  EXPECT_EQ(bench_->plan.sequences[0].num_tokens, 120);
  bench_->Finish();
  RunToEnd();
  EXPECT_EQ(asked_.size(), 1u);
  EXPECT_EQ(Lookups("nothing"), 1);
}

TEST_F(SchedulerLookupTest, ItWaitsNoLongerThanItMayAndALateAnswerIsForNobody) {
  bench_->Submit(MakeRequest(1, MakePrompt(120, 1), 1));
  EXPECT_FALSE(Plan());
  EXPECT_EQ(bench_->scheduler->num_lookups(), 1);
  bench_->now += absl::Milliseconds(999);
  EXPECT_FALSE(Plan());
  bench_->now += absl::Milliseconds(1);
  usable_ = false;
  ASSERT_TRUE(Plan());
  bench_->scheduler->OnRemoteFound({.id = asked_.at(0).id, .digests = {BlockDigest{1}}});
  bench_->Finish();
  RunToEnd();
  EXPECT_EQ(Lookups("late"), 1);
  EXPECT_EQ(bench_->sink[RequestId{1}].prompt->cached_tokens, 0);
}

TEST_F(SchedulerLookupTest, AFailedOneIsAsIfNothingWereThere) {
  bench_->Submit(MakeRequest(1, MakePrompt(120, 1), 1));
  EXPECT_FALSE(Plan());
  bench_->scheduler->OnRemoteFound(
      {.id = asked_.at(0).id, .status = absl::UnavailableError("gone")});
  RunToEnd();
  EXPECT_TRUE(bench_->sink[RequestId{1}].done->ok());
  EXPECT_EQ(Lookups("failed"), 1);
}

TEST_F(SchedulerLookupTest, AnAnswerForACancelledRequestFindsNobody) {
  bench_->Submit(MakeRequest(1, MakePrompt(120, 1), 1));
  EXPECT_FALSE(Plan());
  bench_->scheduler->Cancel(RequestId{1});
  EXPECT_FALSE(Plan());
  bench_->scheduler->OnRemoteFound({.id = asked_.at(0).id});
  EXPECT_EQ(bench_->scheduler->num_lookups(), 0);
  EXPECT_TRUE(bench_->scheduler->idle());
}

TEST_F(SchedulerLookupTest, NobodyAsksAServerThatIsLeftAloneNorForWhatMayNotBeReused) {
  Request scored = MakeRequest(1, MakePrompt(120, 1), 1);
  scored.reuse_prefix = false;
  bench_->Submit(std::move(scored));
  EXPECT_TRUE(Plan());
  bench_->Finish();
  usable_ = false;
  bench_->Submit(MakeRequest(2, MakePrompt(120, 2), 1));
  EXPECT_TRUE(Plan());
  bench_->Finish();
  EXPECT_TRUE(asked_.empty());
  RunToEnd();
}

TEST_F(SchedulerLookupTest, QuestionsAreBounded) {
  for (uint64_t id = 1; id <= 100; ++id) {
    bench_->Submit(MakeRequest(id, MakePrompt(70, static_cast<TokenId>(id)), 1));
  }
  // Who may not ask runs at once.
  while (Plan()) {
    bench_->Finish();
    EXPECT_LE(bench_->scheduler->num_lookups(), Scheduler::kLookupsMax);
    if (bench_->scheduler->num_lookups() == Scheduler::kLookupsMax) break;
  }
  EXPECT_LE(asked_.size(), static_cast<size_t>(Scheduler::kLookupsMax));
  for (RemoteLookup& lookup : asked_) bench_->scheduler->OnRemoteFound({.id = lookup.id});
  RunToEnd();
  EXPECT_EQ(bench_->scheduler->num_lookups(), 0);
}

}  // namespace
}  // namespace holdfast
