// Promises 1, 2 and 3 on timed, overlapping traffic: whatever arrives, is cancelled, preempted,
// copied, lost, torn, corrupted, late or killed in between, each client hears what it would hear
// from a server with room for all and no cache, bit for bit, and nothing of another scope. What is
// looked at in between: serving_world.h. The seed replays a failure.
#include <cstdio>

#include "gtest/gtest.h"
#include "tests/sim/seed_note.h"
#include "tests/sim/serving_world.h"

namespace holdfast {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint32_t kNumTraces = 300, kNumFileTraces = 15;
constexpr uint64_t kOften = 0;  // so few traces need only meet it at all
#else
constexpr uint32_t kNumTraces = 2000, kNumFileTraces = 40;
constexpr uint64_t kOften = 10;
#endif

bool IsPrefix(const RecordedChoice& part, const RecordedChoice& whole) {
  const auto begins = [](const auto& a, const auto& b) {
    return a.size() <= b.size() && std::equal(a.begin(), a.end(), b.begin());
  };
  return begins(part.tokens, whole.tokens) && begins(part.logprobs, whole.logprobs) &&
         begins(part.tops, whole.tops);
}

bool SameLogprobs(const PromptEvent& a, const PromptEvent& b) {
  return std::equal(a.prompt_logprobs.begin(), a.prompt_logprobs.end(), b.prompt_logprobs.begin(),
                    b.prompt_logprobs.end(), [](const auto& x, const auto& y) {
                      return x.chosen == y.chosen && x.top == y.top;
                    });
}

// What the client of `served` has heard is what the one of `truth` has, as far as it got.
void ExpectSame(const ServingWorld::Attempt& served, const ServingWorld::Attempt& truth) {
  ASSERT_EQ(served.request.prompt, truth.request.prompt);
  const RecordedRequest& heard = served.heard;
  if (heard.prompt) {
    ASSERT_TRUE(SameLogprobs(*heard.prompt, *truth.heard.prompt));
  }
  for (const auto& [index, choice] : heard.choices) {
    ASSERT_TRUE(IsPrefix(choice, truth.heard.choices.at(index))) << "choice " << index;
  }
  if (!heard.done || !heard.done->ok() || served.stopped) return;
  ASSERT_EQ(heard.choices, truth.heard.choices);
}

void ExpectSame(const ServingWorld& served, const ServingWorld& truth) {
  for (const auto& [turn, attempts] : served.attempts()) {
    for (const ServingWorld::Attempt& attempt : attempts) {
      SCOPED_TRACE(testing::Message() << "agent " << turn.agent << " turn " << turn.turn
                                      << " request " << Number(attempt.request.id));
      ASSERT_TRUE(truth.attempts().contains(turn));
      ExpectSame(attempt, truth.attempts().at(turn).at(0));
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

void Add(const WorldTotals& of, WorldTotals& to) {
  static_assert(sizeof(WorldTotals) % sizeof(uint64_t) == 0);
  const auto* from = reinterpret_cast<const uint64_t*>(&of);
  auto* sum = reinterpret_cast<uint64_t*>(&to);
  for (size_t i = 0; i < sizeof(WorldTotals) / sizeof(uint64_t); ++i) sum[i] += from[i];
}

unsigned long long Print(uint64_t count) { return count; }

// Serves the trace of `seed` and compares.
void RunTrace(uint32_t seed, const Circumstances& how, const AgentTrace& trace,
              WorldTotals& totals) {
  ServingWorld truth(trace, WithoutCache(trace), seed);
  truth.Run();
  ServingWorld served(trace, how, seed);
  served.Run();
  if (testing::Test::HasFailure()) return;
  ExpectSame(served, truth);
  Add(served.totals(), totals);
}

TEST(ServingTraceTest, EveryClientHearsWhatItWouldWithoutACache) {
  WorldTotals totals;
  for (uint32_t seed = 0; seed < kNumTraces; ++seed) {
    const SeedNote note("the trace", seed);
    const AgentTrace trace = MakeAgentTrace(seed);
    RunTrace(seed, DrawCircumstances(seed, trace), trace, totals);
    if (HasFailure()) return;
  }
  std::printf(
      "%llu events %llu requests %llu ok %llu cancelled %llu of them amid moves %llu stopped\n",
      Print(totals.events), Print(totals.requests), Print(totals.done_ok), Print(totals.cancelled),
      Print(totals.cancelled_amid_moves), Print(totals.stopped));
  std::printf("hit tokens %llu device %llu host %llu disk; %llu pins continued %llu copies\n",
              Print(totals.hit_tokens[0]), Print(totals.hit_tokens[1]), Print(totals.hit_tokens[2]),
              Print(totals.pins_continued), Print(totals.copies));
  std::printf("done, failed: offloads %llu %llu restores %llu %llu demotions %llu %llu\n",
              Print(totals.moves_done[0]), Print(totals.moves_failed[0]),
              Print(totals.moves_done[1]), Print(totals.moves_failed[1]),
              Print(totals.moves_done[2]), Print(totals.moves_failed[2]));
  std::printf("%llu damaged %llu found out %llu cut %llu dropped %llu duplicate %llu preemptions\n",
              Print(totals.damaged), Print(totals.found_out), Print(totals.restores_cut),
              Print(totals.dropped_without_copy), Print(totals.blocks_duplicate),
              Print(totals.preemptions));
  std::printf("%llu steps failed %llu clock jumps %llu kills %llu adopted\n",
              Print(totals.steps_failed), Print(totals.clock_jumps), Print(totals.kills),
              Print(totals.adopted));
  // The traces meet what they are about.
  for (uint64_t tokens : totals.hit_tokens) EXPECT_GT(tokens, 1000u);
  for (uint64_t done : totals.moves_done) EXPECT_GT(done, 100u);
  for (uint64_t failed : totals.moves_failed) EXPECT_GT(failed, 20u);
  for (uint64_t count :
       {totals.cancelled, totals.cancelled_amid_moves, totals.stopped, totals.steps_failed,
        totals.clock_jumps, totals.kills, totals.adopted, totals.preemptions, totals.pins_continued,
        totals.copies, totals.found_out, totals.restores_cut, totals.dropped_without_copy,
        totals.blocks_duplicate, totals.planned_ahead}) {
    EXPECT_GT(count, kOften);
  }
  EXPECT_GT(totals.done_ok, totals.requests / 3);
}

// Files, threads' I/O, compaction and recovery as they are; slow, hence few.
TEST(ServingTraceTest, AlsoOverFilesThatGoBadAndAreOpenedAgain) {
  WorldTotals totals;
  for (uint32_t seed = 10'000; seed < 10'000 + kNumFileTraces; ++seed) {
    const SeedNote note("the trace", seed);
    const AgentTrace trace = MakeAgentTrace(seed);
    Circumstances how = DrawCircumstances(seed, trace);
    how.real_disk = true;
    how.disk_slots = std::max(how.disk_slots, 8);
    how.disk_faults.put_tears = 20;
    how.killed = 200;
    RunTrace(seed, how, trace, totals);
    if (HasFailure()) return;
  }
  EXPECT_GT(totals.hit_tokens[TierAt(TierKind::kDisk)], 100u);
  EXPECT_GT(totals.kills, kOften);
  EXPECT_GT(totals.adopted, kOften);
  EXPECT_GT(totals.found_out, 0u);
}

}  // namespace
}  // namespace holdfast
