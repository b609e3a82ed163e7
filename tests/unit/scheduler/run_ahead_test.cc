// Sequences that compute on top of what is still coming back, layer by layer. The fake engine reads
// all layers when it computes and blocks hold rubbish until they are there, so that a wait too few
// is a wrong token.
#include <map>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/sim/sim_media.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

constexpr int32_t kLayers = 4;

// A device of eight blocks above 64 on the host. While the engine is at work behind a gate the
// mover's answers come, as in the daemon.
struct Layered {
  explicit Layered(uint32_t seed = 1, uint32_t fail_one_in = 0)
      : bench({.context_tokens = 128, .num_blocks = 8, .num_layers = kLayers}, Options(host)),
        mover(bench.engine, &host, nullptr, seed, fail_one_in) {
    bench.UseMover(mover);
    bench.engine.OnExecute([this](const StepPlan& plan) {
      for (const PlanSequence& part : plan.sequences) {
        if (part.gate == nullptr) continue;
        ++num_ahead;
        while (mover.has_gated()) TellGated();
      }
    });
  }
  static SchedulerOptions Options(SimTier& host) {
    SchedulerOptions options;
    options.kv.host = &host;
    options.kv.low_water = 1.0;
    return options;
  }
  void TellGated() {
    const MoveDone done = mover.FinishGated();
    if (tells) {
      bench.scheduler->OnMoveDone(done, bench.now);
    } else {
      untold.push_back(done);
    }
  }
  RecordedRequest Serve(Request request) {
    const RequestId id = request.id;
    CHECK(bench.Submit(std::move(request)));
    bench.RunToEnd();
    bench.scheduler->CheckInvariants();
    return bench.sink[id];
  }
  const KvStoreCounters& counters() const { return bench.scheduler->store().counters(); }

  SimTier host{TierKind::kHost, 64, kLayers};
  SchedulerBench bench;
  SimMover mover;
  int num_ahead = 0;  // sequences in steps, behind gates
  bool tells = true;
  std::vector<MoveDone> untold;
};

Request Turn(uint64_t id, TokenId from) { return MakeRequest(id, MakePrompt(90, from), 3); }

// Turn 3 is the first once more, whose five blocks have had to go, submitted and planned: they are
// on their way.
RecordedChoice SendForTurn3(Layered& layered) {
  const RecordedChoice first = layered.Serve(Turn(1, 0)).choices.at(0);
  layered.Serve(Turn(2, 1));
  CHECK(layered.bench.Submit(Turn(3, 0)));
  EXPECT_FALSE(layered.bench.Plan());
  EXPECT_TRUE(layered.mover.has_gated());
  return first;
}

TEST(RunAheadTest, AloneItBeginsWithTheFirstLayer) {
  Layered layered;
  const RecordedChoice first = SendForTurn3(layered);
  ASSERT_TRUE(layered.mover.BringLayer());
  ASSERT_TRUE(layered.bench.Plan());
  ASSERT_EQ(layered.bench.plan.sequences.size(), 1u);
  const PlanSequence& part = layered.bench.plan.sequences[0];
  EXPECT_EQ(part.first_position, 80);
  ASSERT_NE(part.gate, nullptr);
  EXPECT_EQ(part.gate->num_open(), 1);
  layered.bench.scheduler->CheckInvariants();
  layered.bench.Finish();
  layered.bench.scheduler->CheckInvariants();
  EXPECT_EQ(layered.bench.sink[RequestId{3}].choices.at(0).tokens.size(), 1u);
  layered.bench.RunToEnd();
  EXPECT_EQ(layered.bench.sink[RequestId{3}].choices.at(0), first);
  EXPECT_EQ(layered.bench.sink[RequestId{3}].prompt->cached_tokens, 80);
  EXPECT_EQ(layered.num_ahead, 1);
  EXPECT_EQ(layered.counters().restores_by_layers, 1u);
  const std::string text = layered.bench.registry.Serialize();
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_run_ahead_total 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_run_ahead_lost_total 0\n"));
}

TEST(RunAheadTest, OthersAreMadeToWaitOnlyOnceHalfOfItIsThere) {
  Layered layered;
  const RecordedChoice first = SendForTurn3(layered);
  ASSERT_TRUE(layered.mover.BringLayer());
  ASSERT_TRUE(layered.bench.Submit(MakeRequest(4, MakePrompt(10, 7), 4)));
  ASSERT_TRUE(layered.bench.Step());
  EXPECT_EQ(layered.num_ahead, 0);
  ASSERT_TRUE(layered.mover.BringLayer());
  ASSERT_TRUE(layered.bench.Step());
  EXPECT_EQ(layered.bench.plan.sequences.size(), 2u);
  EXPECT_EQ(layered.num_ahead, 1);
  layered.bench.RunToEnd();
  EXPECT_EQ(layered.bench.sink[RequestId{3}].choices.at(0), first);
}

TEST(RunAheadTest, WhatComesBackBadIsAsIfNothingHadBeenComputed) {
  Layered layered(1, /*fail_one_in=*/4);
  RecordedChoice first;
  // Until a step has met a failing gate.
  for (uint64_t id = 1; layered.counters().restores_cut < 5 || layered.num_ahead < 10; ++id) {
    ASSERT_LT(id, 300u);
    ASSERT_TRUE(layered.bench.Submit(Turn(id, static_cast<TokenId>(id % 2))));
    (void)layered.bench.Plan();
    if (layered.bench.scheduler->step_running()) {
      layered.bench.Finish();
    } else if (layered.mover.BringLayer() && layered.bench.Plan()) {
      layered.bench.Finish();
      layered.bench.scheduler->CheckInvariants();
    }
    layered.bench.RunToEnd();
    const RecordedRequest said = layered.bench.sink[RequestId{id}];
    ASSERT_TRUE(said.done->ok());
    if (id == 2) first = said.choices.at(0);
    if (id % 2 == 0) {
      EXPECT_EQ(said.choices.at(0), first) << id;
    }
  }
}

TEST(RunAheadTest, WhatWasCountedAsFoundIsWhatWasUsed) {
  Layered layered(7, /*fail_one_in=*/5);
  int64_t told = 0;
  for (uint64_t id = 1; id < 60; ++id) {
    ASSERT_TRUE(layered.bench.Submit(Turn(id, static_cast<TokenId>(id % 3))));
    while (!layered.bench.scheduler->idle()) {
      layered.mover.BringLayer();
      if (!layered.bench.Step()) {
        ASSERT_TRUE(layered.bench.FinishMove());
      }
    }
    told += layered.bench.sink[RequestId{id}].prompt->cached_tokens;
  }
  const auto& hits = layered.bench.scheduler->store().hit_tokens({});
  uint64_t counted = 0;
  for (uint64_t tokens : hits) counted += tokens;
  EXPECT_GT(layered.num_ahead, 5);
  EXPECT_EQ(counted, static_cast<uint64_t>(told));
  EXPECT_THAT(layered.bench.registry.Serialize(),
              HasSubstr("holdfast_scheduler_cached_tokens_total{tenant=\"default\"} " +
                        std::to_string(told) + "\n"));
}

TEST(RunAheadTest, CancellingItInMidStepEndsItWithTheStep) {
  Layered layered;
  SendForTurn3(layered);
  ASSERT_TRUE(layered.mover.BringLayer());
  ASSERT_TRUE(layered.bench.Plan());
  layered.bench.scheduler->Cancel(RequestId{3});
  EXPECT_FALSE(layered.bench.sink.done(RequestId{3}));  // the engine is at work on it
  layered.bench.Finish();
  EXPECT_TRUE(layered.bench.sink.done(RequestId{3}));
  layered.bench.scheduler->CheckInvariants();
  layered.bench.RunToEnd();
  EXPECT_EQ(layered.Serve(Turn(4, 0)).prompt->cached_tokens, 80);
}

TEST(RunAheadTest, AnEngineThatFailsBehindAGateLeavesNothingBehind) {
  Layered layered;
  const RecordedChoice first = SendForTurn3(layered);
  ASSERT_TRUE(layered.mover.BringLayer());
  layered.bench.engine.OnExecute(nullptr);  // what was on its way is so still when it fails
  layered.bench.engine.FailStep(layered.bench.engine.num_steps());
  ASSERT_TRUE(layered.bench.Step());
  EXPECT_FALSE(layered.bench.sink[RequestId{3}].done->ok());
  layered.bench.scheduler->CheckInvariants();
  layered.bench.RunToEnd();
  EXPECT_EQ(layered.Serve(Turn(4, 0)).choices.at(0), first);
}

TEST(RunAheadTest, AStepThatIsDoneBeforeTheMovesAreToldIsComputedAgain) {
  Layered layered;
  const RecordedChoice first = SendForTurn3(layered);
  ASSERT_TRUE(layered.mover.BringLayer());
  layered.tells = false;
  ASSERT_TRUE(layered.bench.Step());
  EXPECT_TRUE(layered.bench.sink[RequestId{3}].choices.empty());
  EXPECT_THAT(layered.bench.registry.Serialize(),
              HasSubstr("holdfast_scheduler_run_ahead_lost_total 1\n"));
  layered.bench.scheduler->CheckInvariants();
  for (const MoveDone& done : layered.untold) {
    layered.bench.scheduler->OnMoveDone(done, layered.bench.now);
  }
  layered.bench.RunToEnd();
  EXPECT_EQ(layered.bench.sink[RequestId{3}].choices.at(0), first);
  EXPECT_EQ(layered.bench.sink[RequestId{3}].prompt->cached_tokens, 80);
}

TEST(RunAheadTest, GatesComeBackIntoUse) {
  Layered layered;
  const RecordedChoice first = layered.Serve(Turn(1, 0)).choices.at(0);
  uint64_t id = 1;
  for (int i = 0; i < 12; ++i) {
    layered.Serve(Turn(++id, 1 + i % 2));
    ASSERT_TRUE(layered.bench.Submit(Turn(++id, 0)));
    while (!layered.bench.Plan() && layered.mover.BringLayer()) {
    }
    layered.bench.scheduler->CheckInvariants();
    if (layered.bench.scheduler->step_running()) layered.bench.Finish();
    layered.bench.RunToEnd();
    EXPECT_EQ(layered.bench.sink[RequestId{id}].choices.at(0), first);
  }
  EXPECT_GT(layered.counters().restores_by_layers, 8u);  // as there are
}

// Arrivals, cancels, layers and ends of moves in any order, some bad; beside an engine that has
// nothing but the tokens.
TEST(RunAheadTest, SaysOnRandomWalksWhatItSaysWithoutAnyCache) {
  constexpr int kPrompts = 6;
  std::vector<RecordedChoice> alone;
  for (TokenId from = 0; from < kPrompts; ++from) {
    SchedulerBench bench({.context_tokens = 128}, {.prefix_cache = false});
    ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50 + 8 * from, from % 3), 6)));
    bench.RunToEnd();
    alone.push_back(bench.sink[RequestId{1}].choices.at(0));
  }
  int num_ahead = 0;
  uint64_t num_cut = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    Layered layered(seed, seed % 3 == 0 ? 0 : 6);
    layered.tells = true;
    std::map<uint64_t, TokenId> asked;
    uint64_t id = 0;
    for (int step = 0; step < 400; ++step) {
      switch (rng() % 8) {
        case 0:
        case 1: {
          const auto from = static_cast<TokenId>(rng() % kPrompts);
          asked[++id] = from;
          ASSERT_TRUE(
              layered.bench.Submit(MakeRequest(id, MakePrompt(50 + 8 * from, from % 3), 6)));
          break;
        }
        case 2:
          if (id > 0) {
            const uint64_t gone = 1 + rng() % id;
            layered.bench.scheduler->Cancel(RequestId{gone});
            if (!layered.bench.sink[RequestId{gone}].done->ok()) asked.erase(gone);
          }
          break;
        case 3:
        case 4:
          layered.mover.BringLayer();
          break;
        case 5:
          layered.bench.FinishMove();
          break;
        default:
          if (layered.bench.Plan()) {
            if (rng() % 8 == 0 && id > 0) {
              const uint64_t gone = 1 + rng() % id;
              layered.bench.scheduler->Cancel(RequestId{gone});
              layered.bench.Finish();
              if (!layered.bench.sink[RequestId{gone}].done->ok()) asked.erase(gone);
            } else {
              layered.bench.Finish();
            }
          }
      }
      layered.bench.scheduler->CheckInvariants();
    }
    layered.bench.RunToEnd();
    layered.bench.scheduler->CheckInvariants();
    for (const auto& [request, from] : asked) {
      const RecordedRequest said = layered.bench.sink[RequestId{request}];
      ASSERT_TRUE(said.done->ok()) << said.done->message();
      ASSERT_EQ(said.choices.at(0), alone[static_cast<size_t>(from)]) << "request " << request;
    }
    num_ahead += layered.num_ahead;
    num_cut += layered.counters().restores_cut;
  }
  EXPECT_GT(num_ahead, 100);
  EXPECT_GT(num_cut, 20u);
}

}  // namespace
}  // namespace holdfast
