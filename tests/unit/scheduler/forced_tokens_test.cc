// Runs of tokens that a form leaves no choice of: taken at once, they are what they are one a step,
// which is how they come where log probabilities are asked for.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "config/limits.h"
#include "gtest/gtest.h"
#include "tests/sim/metric_values.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/unit/scheduler/run_constraint.h"

namespace holdfast {
namespace {

constexpr RequestId kId{1};
constexpr size_t kFree = RunConstraint::kFree;

Request Held(size_t run_length, int32_t max_tokens, uint64_t id = 1, int32_t prompt = 20) {
  Request request = MakeRequest(id, MakePrompt(prompt), max_tokens);
  request.masks.push_back(RunConstraint::Mask(run_length));
  return request;
}

using Answer = std::vector<std::pair<std::vector<TokenId>, std::optional<SequenceEnd>>>;

Answer AnswerOf(const RecordedRequest& recorded) {
  Answer answer;
  for (const auto& [number, choice] : recorded.choices) {
    answer.emplace_back(choice.tokens, choice.end);
  }
  return answer;
}

Answer OneByOne(Request request) {
  const RequestId id = request.id;
  request.sampling.top_logprobs = 0;
  request.tenant = TenantIndex{0};
  SchedulerBench bench({}, {.prefix_cache = false});
  CHECK(bench.Submit(std::move(request)));
  bench.RunToEnd();
  CHECK(bench.engine.num_forced() == 0);
  return AnswerOf(bench.sink[id]);
}

size_t NumDelivered(SchedulerBench& bench) {
  const RecordedRequest& recorded = bench.sink[kId];
  return recorded.choices.empty() ? 0 : recorded.choices.at(0).tokens.size();
}

double Forced(const SchedulerBench& bench) {
  return MetricValues(bench.registry).Sum("holdfast_scheduler_forced_tokens_total");
}

TEST(ForcedTokensTest, ARunTakesOneStep) {
  const Answer truth = OneByOne(Held(20, 48));
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(Held(20, 48)));
  std::vector<int32_t> rows;
  while (bench.Plan()) {
    rows.push_back(bench.plan.sequences[0].num_tokens);
    bench.Finish();
    bench.scheduler->CheckInvariants();
  }
  EXPECT_EQ(AnswerOf(bench.sink[kId]), truth);
  EXPECT_EQ(rows, (std::vector<int32_t>{20, 1, 1, 1, 1, 20, 1, 1, 1, 1}));
  EXPECT_EQ(Forced(bench), 2 * 19);
}

TEST(ForcedTokensTest, BesideAStepThatWasPlannedAheadTheAnswerIsTheSame) {
  const Answer truth = OneByOne(Held(5, 60));
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(Held(5, 60)));
  int steps = 0, ahead = 0;
  for (; bench.Plan(); ++steps) {
    ahead += bench.PlanAhead() ? 1 : 0;
    bench.Finish();
    bench.scheduler->CheckInvariants();
  }
  EXPECT_EQ(AnswerOf(bench.sink[kId]), truth);
  EXPECT_GT(ahead, 20);
  EXPECT_LT(steps, 50);  // a run of five takes two
}

TEST(ForcedTokensTest, ADrawThatOnlyAStepPlannedAheadRepeatsFailsNobody) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(Held(5, 60)));
  while (NumDelivered(bench) < kFree) {
    ASSERT_TRUE(bench.Plan());
    bench.Finish();
  }
  ASSERT_TRUE(bench.Plan());       // draws the first of the run
  ASSERT_TRUE(bench.PlanAhead());  // and this the second, once more
  bench.Finish();
  ASSERT_EQ(NumDelivered(bench), kFree + 5);
  bench.engine.PoisonToken(bench.sink[kId].choices.at(0).tokens[kFree]);
  bench.Finish();
  EXPECT_FALSE(bench.sink.done(kId));
  bench.engine.PoisonToken(-1);
  bench.RunToEnd();
  EXPECT_EQ(AnswerOf(bench.sink[kId]), OneByOne(Held(5, 60)));
}

TEST(ForcedTokensTest, MaxTokensEndAnAnswerInTheMiddleOfARun) {
  for (int32_t max_tokens = 1; max_tokens <= 14; ++max_tokens) {
    SchedulerBench bench({});
    ASSERT_TRUE(bench.Submit(Held(8, max_tokens)));
    bench.RunToEnd();
    const Answer answer = AnswerOf(bench.sink[kId]);
    EXPECT_EQ(answer, OneByOne(Held(8, max_tokens)));
    EXPECT_EQ(answer[0].first.size(), static_cast<size_t>(max_tokens));
    EXPECT_EQ(answer[0].second, SequenceEnd::kLength);
    EXPECT_EQ(bench.scheduler->block_counts().held, 0);
  }
}

TEST(ForcedTokensTest, AStopTokenEndsAnAnswerInTheMiddleOfARun) {
  for (TokenId stop = RunConstraint::kForced; stop < RunConstraint::kForced + 7; ++stop) {
    Request request = Held(30, 60), alone = Held(30, 60);
    request.stop_tokens = alone.stop_tokens = {stop};
    SchedulerBench bench({});
    ASSERT_TRUE(bench.Submit(std::move(request)));
    bench.RunToEnd();
    EXPECT_EQ(AnswerOf(bench.sink[kId]), OneByOne(std::move(alone)));
  }
}

TEST(ForcedTokensTest, TheEndOfTheContextCutsARun) {
  SchedulerBench bench({.context_tokens = 40, .num_blocks = 3});
  ASSERT_TRUE(bench.Submit(Held(100, 20)));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[kId].choices.at(0).tokens.size(), 20u);
  EXPECT_EQ(bench.sink[kId].choices.at(0).end, SequenceEnd::kLength);
}

TEST(ForcedTokensTest, ALongRunComesInPartsAndIsComputedInChunksOfTheStep) {
  constexpr int32_t kRun = 2 * kForcedTokensMax;
  const FakeEngineOptions engine = {.context_tokens = 1024, .step_tokens_max = 32};
  Request alone = Held(kRun, kRun + 20);
  alone.sampling.top_logprobs = 0;
  SchedulerBench one_by_one(engine), bench(engine);
  ASSERT_TRUE(one_by_one.Submit(std::move(alone)));
  one_by_one.RunToEnd();
  ASSERT_TRUE(bench.Submit(Held(kRun, kRun + 20)));
  size_t before = 0;
  while (bench.Step()) {
    const size_t now = NumDelivered(bench);
    EXPECT_LE(now - before, size_t{kForcedTokensMax} + 1);
    before = now;
    bench.scheduler->CheckInvariants();
  }
  EXPECT_EQ(AnswerOf(bench.sink[kId]), AnswerOf(one_by_one.sink[kId]));
  EXPECT_LT(bench.engine.num_steps(), one_by_one.engine.num_steps() / 10);
}

TEST(ForcedTokensTest, ARunHasARowInEachStepHoweverLongAnothersPromptsAre) {
  SchedulerOptions options = {.running_max = 2};
  options.tenants = {{.name = "a"}, {.name = "b"}};
  SchedulerBench bench({.step_tokens_max = 8}, options);
  ASSERT_TRUE(bench.Submit(Held(60, 100)));
  while (NumDelivered(bench) <= kFree) ASSERT_TRUE(bench.Step());
  Request prompt = MakeRequest(2, MakePrompt(200, 3), 4);
  prompt.tenant = TenantIndex{1};
  ASSERT_TRUE(bench.Submit(std::move(prompt)));
  const SequenceSlot slot = bench.plan.sequences[0].slot;
  for (int step = 0; step < 10; ++step) {
    ASSERT_TRUE(bench.Plan());
    const auto& parts = bench.plan.sequences;
    EXPECT_TRUE(std::any_of(parts.begin(), parts.end(),
                            [&](const PlanSequence& part) { return part.slot == slot; }));
    bench.Finish();
  }
  EXPECT_EQ(NumDelivered(bench), kFree + 60);  // it is not through its run yet
}

TEST(ForcedTokensTest, AChoiceThatIsStoppedOrARequestThatIsCancelledInARunEnds) {
  for (const bool cancels : {false, true}) {
    SchedulerBench bench({.step_tokens_max = 8});
    ASSERT_TRUE(bench.Submit(Held(40, 100)));
    while (NumDelivered(bench) <= kFree) ASSERT_TRUE(bench.Step());
    ASSERT_TRUE(bench.Plan());
    if (cancels) {
      bench.scheduler->Cancel(kId);
    } else {
      bench.scheduler->StopChoice(kId, 0);
    }
    bench.Finish();
    ASSERT_TRUE(bench.sink.done(kId));
    EXPECT_EQ(bench.sink[kId].done->ok(), !cancels);
    EXPECT_EQ(bench.sink[kId].choices.at(0).tokens.size(), kFree + 40);
    EXPECT_EQ(bench.scheduler->block_counts().held, 0);
  }
}

// Of three two are held, some with several choices, stop tokens, or log probabilities.
Request RandomRequest(uint64_t id, uint32_t seed) {
  std::mt19937 rng(seed * 1000 + static_cast<uint32_t>(id));
  Request request = MakeRequest(
      id, MakePrompt(static_cast<int32_t>(1 + rng() % 70), static_cast<TokenId>(rng() % 3)),
      static_cast<int32_t>(1 + rng() % 90));
  request.sampling.seed = rng() % 5;
  request.num_choices = rng() % 4 == 0 ? 3 : 1;
  request.offline = rng() % 5 == 0;
  if (rng() % 2 == 0) {
    request.stop_tokens = {RunConstraint::kForced + static_cast<TokenId>(rng() % 7),
                           static_cast<TokenId>(rng() % 1000)};
  }
  const size_t run_length = rng() % 2 == 0 ? rng() % 4 : rng() % 40;
  const bool is_held = rng() % 3 > 0;
  if (rng() % 8 == 0) request.sampling.top_logprobs = 0;
  for (int32_t choice = 0; is_held && choice < request.num_choices; ++choice) {
    request.masks.push_back(RunConstraint::Mask(run_length));
  }
  return request;
}

// Walks at random, with preemption, steps planned ahead and requests that are given up; every whole
// answer is what it is alone and one token a step. The seed replays a failure.
TEST(ForcedTokensTest, AnswersAreTheSameOneByOneOnRandomWalks) {
  int64_t num_forced = 0, num_preempted = 0, num_ahead = 0;
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    const auto between = [&](int32_t least, int32_t most) {
      return least + static_cast<int32_t>(rng() % static_cast<uint32_t>(most - least + 1));
    };
    SchedulerOptions options = {.running_max = between(1, 8),
                                .waiting_max = 100,
                                .chunk_tokens_max = between(1, 64),
                                .offline_step_tokens_max = between(1, 16),
                                .speculation = Speculation::kAlways};
    options.tenants.resize(static_cast<size_t>(between(1, 3)));
    SchedulerBench bench({.context_tokens = 192,
                          .num_blocks = between(12, 40),
                          .num_sequence_slots = 8,
                          .step_tokens_max = between(8, 64)},
                         options);
    constexpr uint64_t kRequests = 24;
    std::vector<bool> given_up(kRequests);
    uint64_t next = 0;
    while (next < kRequests || !bench.scheduler->idle()) {
      if (next < kRequests && rng() % 3 == 0) {
        Request request = RandomRequest(next++, seed);
        request.tenant = TenantIndex{static_cast<int32_t>(next % options.tenants.size())};
        ASSERT_TRUE(bench.Submit(std::move(request)));
      }
      if (next > 0 && rng() % 100 == 0) {
        const uint64_t id = rng() % next;
        given_up[id] = true;
        if (rng() % 2 == 0) {
          bench.scheduler->Cancel(RequestId{id});
        } else {
          bench.scheduler->StopChoice(RequestId{id}, 0);
        }
      }
      if (!bench.Plan()) continue;
      num_ahead += rng() % 2 == 0 && bench.PlanAhead() ? 1 : 0;
      bench.scheduler->CheckInvariants();
      bench.Finish();
      bench.scheduler->CheckInvariants();
    }
    for (uint64_t id = 0; id < kRequests; ++id) {
      if (given_up[id]) continue;
      const RecordedRequest& recorded = bench.sink[RequestId{id}];
      ASSERT_TRUE(recorded.done.has_value() && recorded.done->ok()) << "request " << id;
      ASSERT_EQ(AnswerOf(recorded), OneByOne(RandomRequest(id, seed))) << "request " << id;
    }
    num_forced += bench.engine.num_forced();
    num_preempted += static_cast<int64_t>(
        MetricValues(bench.registry).Sum("holdfast_scheduler_preemptions_total"));
  }
  EXPECT_GT(num_forced, 5000);
  EXPECT_GT(num_preempted, 100);
  EXPECT_GT(num_ahead, 1000);
}

}  // namespace
}  // namespace holdfast
