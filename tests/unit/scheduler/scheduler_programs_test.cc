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

// --- The tool named by the answer's text, which is read while the scheduler goes on.

// Under kFixedTtl a quick tool is worth two seconds and a slow one nothing.
class NamedToolTest : public testing::Test {
 protected:
  NamedToolTest()
      : bench_(kEngine, {.policy = SchedulerPolicy::kFixedTtl, .kv = {.pinned_max = 0.9}}) {
    Learn("slow", absl::Seconds(5));
    Learn("quick", absl::Milliseconds(20));
    Learn("", absl::Seconds(60));  // people
  }

  void Learn(const std::string& tool, absl::Duration time) {
    Request turn = Turn(next_++, "teacher of " + tool, MakePrompt(30, 7));
    turn.tool_hint.reset();
    if (!tool.empty()) turn.tool_hint = {.name = tool};
    Run(turn);
    bench_.now += time;
    turn = Turn(next_++, turn.session, MakePrompt(30, 7));
    turn.session_final = true;
    Run(turn);
  }
  Request Unhinted() {
    Request turn = Turn(next_++, "agent", MakePrompt(100, 1));
    turn.tool_hint.reset();
    turn.names_tool = true;
    return turn;
  }
  void Run(const Request& turn) {
    ASSERT_TRUE(bench_.Submit(turn));
    bench_.RunToEnd();
  }
  // In how long its pin ends; zero: it has none.
  absl::Duration PinLeft() {
    const Pin* pin = bench_.scheduler->store().pins().Find(TenantIndex{}, "agent");
    return pin == nullptr ? absl::ZeroDuration() : pin->deadline - bench_.now;
  }
  void Name(RequestId turn, const char* tool) {
    bench_.scheduler->NameTool(turn, tool, bench_.now);
  }
  std::string LastTool() {
    return bench_.scheduler->programs().Find(TenantIndex{}, "agent")->last_tool;
  }

  SchedulerBench bench_;
  uint64_t next_ = 1;
};

TEST_F(NamedToolTest, AfterTheTurnTheNameDecidesHowLongItsKvStays) {
  const Request turn = Unhinted();
  Run(turn);
  EXPECT_EQ(PinLeft(), absl::Seconds(1)) << "to hear the name";
  EXPECT_EQ(bench_.scheduler->store().pins().num_pins(PinState::kProvisional), 1);
  const absl::Time ended = bench_.now;
  bench_.now += absl::Milliseconds(300);
  Name(turn.id, "quick");
  EXPECT_EQ(bench_.now + PinLeft(), ended + absl::Seconds(2));
  EXPECT_EQ(bench_.scheduler->store().pins().num_pins(PinState::kPaused), 1);
  EXPECT_EQ(LastTool(), "quick");
  bench_.scheduler->CheckInvariants();
}

TEST_F(NamedToolTest, AToolNotWorthItLetsTheKvGoAtOnce) {
  for (const char* tool : {"slow", ""}) {
    const Request turn = Unhinted();
    Run(turn);
    ASSERT_GT(PinLeft(), absl::ZeroDuration());
    Name(turn.id, tool);
    EXPECT_EQ(PinLeft(), absl::ZeroDuration());
    EXPECT_EQ(LastTool(), tool);
  }
  EXPECT_EQ(bench_.scheduler->store().pins().num_ended(PinEnd::kDeclined), 2u);
}

TEST_F(NamedToolTest, ANameThatNeverComesHoldsTheKvForASecond) {
  Run(Unhinted());
  bench_.now += absl::Seconds(1);
  EXPECT_FALSE(bench_.Plan());
  EXPECT_EQ(PinLeft(), absl::ZeroDuration());
  EXPECT_EQ(bench_.scheduler->store().pins().num_ended(PinEnd::kExpired), 1u);
}

TEST_F(NamedToolTest, ANameThatComesBeforeTheEndCountsAtTheEnd) {
  for (const char* tool : {"quick", "slow"}) {
    const Request turn = Unhinted();
    ASSERT_TRUE(bench_.Submit(turn));
    ASSERT_TRUE(bench_.Step());
    Name(turn.id, tool);
    bench_.RunToEnd();
    EXPECT_EQ(PinLeft() > absl::ZeroDuration(), tool == std::string("quick"));
    EXPECT_EQ(LastTool(), tool);
    bench_.scheduler->DropPins(std::nullopt);
  }
}

TEST_F(NamedToolTest, LateTwiceOrForSomeoneGoneItSaysNothing) {
  const Request first = Unhinted();
  Run(first);
  Name(first.id, "quick");
  Name(first.id, "slow");
  EXPECT_EQ(LastTool(), "quick") << "twice";
  EXPECT_GT(PinLeft(), absl::ZeroDuration());
  Name(RequestId{999}, "slow");
  EXPECT_GT(PinLeft(), absl::ZeroDuration()) << "of nobody";

  const Request second = Unhinted();
  Run(second);
  const Request third = Unhinted();
  ASSERT_TRUE(bench_.Submit(third));
  Name(second.id, "slow");
  EXPECT_EQ(LastTool(), "") << "the next turn has come";
  bench_.scheduler->Cancel(third.id);
  Name(third.id, "slow");
  EXPECT_GT(PinLeft(), absl::ZeroDuration()) << "it was cancelled";

  Request last = Unhinted();
  last.session_final = true;
  Run(last);
  Name(last.id, "quick");
  EXPECT_EQ(PinLeft(), absl::ZeroDuration()) << "its program has ended";
  bench_.scheduler->CheckInvariants();
}

TEST_F(NamedToolTest, WhatTheClientAskedForIsKeptAsAsked) {
  Request turn = Unhinted();
  turn.retain = {.ttl = absl::Seconds(100)};
  Run(turn);
  Name(turn.id, "slow");
  EXPECT_EQ(PinLeft(), absl::Seconds(100));
  EXPECT_EQ(LastTool(), "slow");
}

TEST_F(NamedToolTest, AProvisionalPinPushesNoOtherOut) {
  SchedulerBench bench(kEngine, {.policy = SchedulerPolicy::kFixedTtl, .kv = {.pinned_max = 0.2}});
  Request kept = MakeRequest(1, MakePrompt(110, 1), 8);  // all that may be pinned
  kept.session = "kept";
  kept.retain = {.ttl = absl::Milliseconds(500)};
  Request person = MakeRequest(2, MakePrompt(20, 2), 2);
  person.session = "person";
  Request again = person;
  again.id = RequestId{3};
  again.names_tool = true;
  for (const Request& request : {person, kept, again}) {
    ASSERT_TRUE(bench.Submit(request));
    bench.RunToEnd();
    if (request.id == person.id) bench.now += absl::Seconds(60);
  }
  const PinTable& pins = bench.scheduler->store().pins();
  EXPECT_NE(pins.Find(TenantIndex{}, "kept"), nullptr);
  EXPECT_EQ(pins.num_ended(PinEnd::kDisplaced), 0u);
}

TEST_F(NamedToolTest, APolicyThatPinsNothingWaitsForNoName) {
  SchedulerBench bench(kEngine, {.policy = SchedulerPolicy::kProgramFcfs});
  Request turn = Unhinted();
  ASSERT_TRUE(bench.Submit(turn));
  bench.RunToEnd();
  EXPECT_EQ(bench.scheduler->store().pins().num_pins(), 0);
  bench.scheduler->NameTool(turn.id, "ls", bench.now);
  EXPECT_EQ(bench.scheduler->programs().Find(TenantIndex{}, "agent")->last_tool, "ls");
}

// --- Programs that name no session.

Request Nameless(uint64_t id, std::vector<TokenId> prompt) {
  return MakeRequest(id, std::move(prompt), 20);
}

TEST(FoundProgramTest, ASecondTurnProvesAProgramAndItsKvStaysByThePolicy) {
  SchedulerBench bench(kEngine, {.policy = SchedulerPolicy::kFixedTtl, .kv = {.pinned_max = 0.9}});
  const PinTable& pins = bench.scheduler->store().pins();
  Request turn = Nameless(1, MakePrompt(60, 1));
  const absl::Time began = bench.now;
  ASSERT_TRUE(bench.Submit(turn));
  bench.RunToEnd();
  EXPECT_EQ(pins.num_pins(), 0) << "one turn is no program";
  EXPECT_EQ(bench.scheduler->programs().num_programs(TenantIndex{}), 0u);
  for (uint64_t id = 2; id <= 4; ++id) {
    bench.now += absl::Milliseconds(500);
    turn = Nameless(id, NextPrompt(bench, turn));
    ASSERT_TRUE(bench.Submit(turn));
    bench.RunToEnd();
    ASSERT_EQ(pins.num_pins(), 1);
    EXPECT_EQ(bench.scheduler->programs().num_programs(TenantIndex{}), 1u);
    const Program* program = bench.scheduler->programs().Find(TenantIndex{}, "prefix-1");
    ASSERT_NE(program, nullptr);
    EXPECT_EQ(program->turns_ended, static_cast<int64_t>(id));
    EXPECT_EQ(program->first_arrival, 0u);
    EXPECT_EQ(program->first_arrived, began);
    bench.scheduler->CheckInvariants();
  }
  EXPECT_EQ(bench.scheduler->programs().estimator(TenantIndex{}).DurationsOf("")->size(), 3u);
}

TEST(FoundProgramTest, AgentsThatShareTheirPromptsBeginningAreNotMerged) {
  SchedulerBench bench(kEngine, {.policy = SchedulerPolicy::kFixedTtl, .kv = {.pinned_max = 0.9}});
  std::vector<Request> turns;
  for (uint64_t agent = 0; agent < 3; ++agent) {
    std::vector<TokenId> prompt = MakePrompt(64, 1);
    for (TokenId i = 0; i < 10; ++i) prompt.push_back(static_cast<TokenId>(agent) * 50 + i);
    turns.push_back(Nameless(agent + 1, prompt));
  }
  for (uint64_t round = 1; round <= 3; ++round) {
    for (Request& turn : turns) {
      ASSERT_TRUE(bench.Submit(turn));
      bench.RunToEnd();
      turn = Nameless(Number(turn.id) + 10, NextPrompt(bench, turn));
    }
    EXPECT_EQ(bench.scheduler->programs().num_programs(TenantIndex{}), round == 1 ? 0u : 3u);
  }
  for (const char* name : {"prefix-1", "prefix-2", "prefix-3"}) {
    EXPECT_EQ(bench.scheduler->programs().Find(TenantIndex{}, name)->turns_ended, 3) << name;
  }
}

TEST(FoundProgramTest, NoAnswerChangesByIt) {
  std::vector<std::vector<TokenId>> expected;
  for (const SchedulerPolicy policy : {SchedulerPolicy::kFcfsLru, SchedulerPolicy::kFixedTtl,
                                       SchedulerPolicy::kContinuum, SchedulerPolicy::kPlas}) {
    SchedulerBench bench(kEngine, {.policy = policy, .kv = {.pinned_max = 0.5}});
    std::vector<std::vector<TokenId>> said;
    Request turn = Nameless(1, MakePrompt(60, 1));
    for (uint64_t id = 2; id <= 6; ++id) {
      Request fork = turn;
      fork.id = RequestId{id + 100};
      ASSERT_TRUE(bench.Submit(turn));
      ASSERT_TRUE(bench.Submit(fork));
      bench.RunToEnd();
      said.push_back(bench.sink[turn.id].choices.at(0).tokens);
      EXPECT_EQ(bench.sink[fork.id].choices.at(0).tokens, said.back());
      turn = Nameless(id, NextPrompt(bench, turn));
    }
    if (expected.empty()) expected = said;
    EXPECT_EQ(said, expected);
    EXPECT_EQ(bench.scheduler->programs().num_programs(TenantIndex{}) > 0,
              policy != SchedulerPolicy::kFcfsLru);
    bench.scheduler->CheckInvariants();
  }
}

TEST(FoundProgramTest, ATurnThatNamesASessionIsThatSessions) {
  SchedulerBench bench(kEngine, {.policy = SchedulerPolicy::kFixedTtl, .kv = {.pinned_max = 0.9}});
  const Request first = Nameless(1, MakePrompt(60, 1));
  ASSERT_TRUE(bench.Submit(first));
  bench.RunToEnd();
  Request second = Nameless(2, NextPrompt(bench, first));
  second.session = "own";
  ASSERT_TRUE(bench.Submit(second));
  bench.RunToEnd();
  EXPECT_EQ(bench.scheduler->programs().Find(TenantIndex{}, "own")->turns_ended, 1);
  EXPECT_EQ(bench.scheduler->programs().num_programs(TenantIndex{}), 1u);
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
