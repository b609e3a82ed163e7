// Turns of agent programs under each policy: what stays for the next turn, who goes first, and that
// no tool that hangs holds others up.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

constexpr FakeEngineOptions kEngine = {
    .context_tokens = 256, .num_blocks = 40, .num_sequence_slots = 4, .step_tokens_max = 64};

Request Turn(uint64_t id, const std::string& session, std::vector<TokenId> prompt) {
  Request request = MakeRequest(id, std::move(prompt), 8);
  request.session = session;
  request.tool_hint = {.name = "ls"};
  return request;
}

// The prompt of the next turn: all of the last and what the tool said.
std::vector<TokenId> NextPrompt(SchedulerBench& bench, const Request& last) {
  std::vector<TokenId> prompt = last.prompt;
  const std::vector<TokenId>& said = bench.sink[last.id].choices.at(0).tokens;
  prompt.insert(prompt.end(), said.begin(), said.end());
  for (TokenId i = 0; i < 20; ++i)
    prompt.push_back((i * 31 + static_cast<TokenId>(prompt.size())) % 997);
  return prompt;
}

// Programs that have run teach what computing costs and how long tools take.
void Teach(SchedulerBench& bench, absl::Duration tool_time) {
  for (uint64_t program = 0; program < 12; ++program) {
    const std::string session = "teacher " + std::to_string(program);
    Request turn = Turn(100'000 + program * 100, session,
                        MakePrompt(100, static_cast<TokenId>(200 + program)));
    for (int32_t i = 0; i < 4; ++i) {
      turn.session_final = i == 3;
      CHECK(bench.Submit(turn));
      bench.RunToEnd();
      bench.now += tool_time;
      const std::vector<TokenId> prompt = NextPrompt(bench, turn);
      turn = Turn(100'000 + program * 100 + static_cast<uint64_t>(i) + 1, session, prompt);
    }
  }
}

TEST(SchedulerProgramsTest, TheKvOfATurnStaysForTheNextUnderPoliciesThatPin) {
  for (const SchedulerPolicy policy :
       {SchedulerPolicy::kFcfsLru, SchedulerPolicy::kFixedTtl, SchedulerPolicy::kContinuum}) {
    SCOPED_TRACE(Name(policy));
    SchedulerBench bench(kEngine, {.policy = policy, .kv = {.pinned_max = 0.9}});
    Teach(bench, absl::Milliseconds(20));
    const Request first = Turn(1, "agent", MakePrompt(150, 1));
    ASSERT_TRUE(bench.Submit(first));
    bench.RunToEnd();
    EXPECT_EQ(bench.scheduler->store().pins().num_pins(),
              policy == SchedulerPolicy::kFcfsLru ? 0 : 1);
  }
}

TEST(SchedulerProgramsTest, AFinalTurnLeavesNothingPinned) {
  SchedulerBench bench(kEngine, {.policy = SchedulerPolicy::kFixedTtl});
  Request only = Turn(1, "agent", MakePrompt(150, 1));
  only.session_final = true;
  ASSERT_TRUE(bench.Submit(only));
  bench.RunToEnd();
  EXPECT_EQ(bench.scheduler->store().pins().num_pins(), 0);
  EXPECT_EQ(bench.scheduler->programs().Find(TenantIndex{}, "agent"), nullptr);
}

TEST(SchedulerProgramsTest, ATurnWithALivePinGoesBeforeThoseThatHaveNone) {
  SchedulerBench bench({.context_tokens = 256, .num_blocks = 40, .num_sequence_slots = 1},
                       {.policy = SchedulerPolicy::kFixedTtl, .kv = {.pinned_max = 0.9}});
  const Request first = Turn(1, "agent", MakePrompt(100, 1));
  ASSERT_TRUE(bench.Submit(MakeRequest(90, MakePrompt(20, 9), 2)));
  ASSERT_TRUE(bench.Submit(first));
  bench.RunToEnd();
  ASSERT_TRUE(bench.Submit(MakeRequest(91, MakePrompt(20, 10), 30)));
  ASSERT_TRUE(bench.Step());
  for (uint64_t id = 92; id <= 94; ++id) {
    ASSERT_TRUE(bench.Submit(MakeRequest(id, MakePrompt(20, static_cast<TokenId>(id)), 2)));
  }
  const Request second = Turn(2, "agent", NextPrompt(bench, first));
  ASSERT_TRUE(bench.Submit(second));
  bench.RunToEnd();
  const std::vector<RequestId> expected = {RequestId{90}, RequestId{1},  RequestId{91},
                                           RequestId{2},  RequestId{92}, RequestId{93},
                                           RequestId{94}};
  EXPECT_EQ(bench.sink.order_done(), expected);
  EXPECT_GE(bench.sink[RequestId{2}].prompt->cached_tokens, 107);  // all but the last token drawn
}

TEST(SchedulerProgramsTest, TheEarlierProgramGoesFirstHoweverLateItsTurn) {
  for (const SchedulerPolicy policy : {SchedulerPolicy::kFcfsLru, SchedulerPolicy::kProgramFcfs}) {
    SchedulerBench bench({.context_tokens = 256, .num_blocks = 40, .num_sequence_slots = 1},
                         {.policy = policy});
    const Request first = Turn(1, "early", MakePrompt(40, 1));
    ASSERT_TRUE(bench.Submit(first));
    bench.RunToEnd();
    ASSERT_TRUE(bench.Submit(MakeRequest(91, MakePrompt(20, 10), 30)));
    ASSERT_TRUE(bench.Step());
    ASSERT_TRUE(bench.Submit(Turn(2, "late", MakePrompt(40, 2))));
    ASSERT_TRUE(bench.Submit(Turn(3, "early", NextPrompt(bench, first))));
    bench.RunToEnd();
    const bool by_program = policy == SchedulerPolicy::kProgramFcfs;
    EXPECT_EQ(bench.sink.order_done().back(), RequestId{by_program ? 2u : 3u});
  }
}

// Continuum's C6.
TEST(SchedulerProgramsTest, AToolThatHangsForEverHoldsItsMemoryForABoundedTimeAndNobodyElseUp) {
  for (const SchedulerPolicy policy :
       {SchedulerPolicy::kFixedTtl, SchedulerPolicy::kInfercept, SchedulerPolicy::kContinuum}) {
    SCOPED_TRACE(Name(policy));
    SchedulerBench bench(kEngine, {.policy = policy, .kv = {.pinned_max = 1}});
    Teach(bench, absl::Milliseconds(20));
    for (uint64_t id = 1; id <= 10; ++id) {  // the pool is full of pins
      ASSERT_TRUE(bench.Submit(
          Turn(id, "hangs " + std::to_string(id), MakePrompt(150, static_cast<TokenId>(id)))));
      bench.RunToEnd();
    }
    for (uint64_t id = 21; id <= 30; ++id) {
      ASSERT_TRUE(bench.Submit(MakeRequest(id, MakePrompt(200, static_cast<TokenId>(id)), 40)));
    }
    bench.RunToEnd();
    for (uint64_t id = 21; id <= 30; ++id) EXPECT_TRUE(bench.sink[RequestId{id}].done->ok());
    bench.now += absl::Seconds(33);
    ASSERT_TRUE(bench.Submit(MakeRequest(31, MakePrompt(20), 2)));
    bench.RunToEnd();
    EXPECT_EQ(bench.scheduler->store().pins().num_pins(), 0);
    bench.scheduler->CheckInvariants();
  }
}

// Continuum's C3.
TEST(SchedulerProgramsTest, EveryPolicyAndOrderGivesTheSameAnswers) {
  std::vector<std::vector<TokenId>> expected;
  for (size_t policy = 0; policy < kSchedulerPolicyNames.size(); ++policy) {
    for (size_t order = 0; order < kWaitOrderNames.size(); ++order) {
      SchedulerBench bench(kEngine, {.policy = static_cast<SchedulerPolicy>(policy),
                                     .order = static_cast<WaitOrder>(order)});
      std::vector<Request> turns;
      for (uint64_t program = 0; program < 6; ++program) {
        turns.push_back(Turn(1 + program, "p" + std::to_string(program),
                             MakePrompt(60, static_cast<TokenId>(program))));
      }
      std::vector<std::vector<TokenId>> said;
      for (uint64_t turn = 0; turn < 4; ++turn) {
        for (const Request& request : turns) ASSERT_TRUE(bench.Submit(request));
        bench.RunToEnd();
        for (Request& request : turns) {
          said.push_back(bench.sink[request.id].choices.at(0).tokens);
          request = Turn(Number(request.id) + 10, request.session, NextPrompt(bench, request));
        }
      }
      if (expected.empty()) expected = said;
      EXPECT_EQ(said, expected);
    }
  }
}

// Continuum's C9: the template drops what the model thought aloud.
TEST(SchedulerProgramsTest, OfAHistoryThatWasRewrittenTheCommonPartIsReused) {
  SchedulerBench bench(kEngine, {.policy = SchedulerPolicy::kFixedTtl, .kv = {.pinned_max = 0.9}});
  const Request first = Turn(1, "agent", MakePrompt(100, 1));
  ASSERT_TRUE(bench.Submit(first));
  bench.RunToEnd();
  std::vector<TokenId> rewritten = first.prompt;
  for (TokenId i = 0; i < 30; ++i) rewritten.push_back(900 + i);
  const Request second = Turn(2, "agent", rewritten);
  ASSERT_TRUE(bench.Submit(second));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{2}].prompt->cached_tokens, 100);
  SchedulerBench alone(kEngine, {.prefix_cache = false});
  ASSERT_TRUE(alone.Submit(second));
  alone.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{2}].choices, alone.sink[RequestId{2}].choices);
}

}  // namespace
}  // namespace holdfast
