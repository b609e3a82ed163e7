// Sequences whose draws keep to a mask, in the loop with its threads. Also run under the thread
// sanitizer.
#include <cstddef>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/scheduler_loop.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/unit/scheduler/run_constraint.h"
#include "tests/unit/scheduler/shared_sink.h"

namespace holdfast {
namespace {

// Of three two are held to masks; some have two choices.
Request MakeMasked(int index) {
  Request request = MakeRequest(static_cast<uint64_t>(index),
                                MakePrompt(20 + index % 40, index % 3), 1 + index % 30);
  request.sampling.seed = static_cast<uint64_t>(index);
  request.num_choices = index % 4 == 0 ? 2 : 1;
  if (index % 3 == 0) return request;
  for (int32_t choice = 0; choice < request.num_choices; ++choice) {
    request.masks.push_back(RunConstraint::Mask(static_cast<size_t>(index % 5)));
  }
  return request;
}

std::vector<RecordedRequest> RunAll(int count, const FakeEngineOptions& engine_options,
                                    const SchedulerOptions& options) {
  FakeEngine engine(engine_options);
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = SchedulerLoop::Create(engine, options, registry, sink);
  CHECK(loop.ok());
  for (int index = 0; index < count; ++index) {
    CHECK((*loop)->Submit(MakeMasked(index)) == Admit::kAccepted);
  }
  sink.WaitDone(count);
  (*loop)->Stop();
  std::vector<RecordedRequest> recorded;
  for (int index = 0; index < count; ++index) {
    recorded.push_back(sink.Get(RequestId{static_cast<uint64_t>(index)}));
  }
  return recorded;
}

TEST(MaskedDrawsTest, EachTokenKeepsToItsMaskAndIsWhatItIsAloneWhateverIsPreempted) {
  constexpr int kRequests = 60;
  const auto together =
      RunAll(kRequests, {.context_tokens = 128, .num_blocks = 12, .num_sequence_slots = 6},
             {.running_max = 6, .waiting_max = 200, .chunk_tokens_max = 24});
  const auto alone = RunAll(kRequests, {.context_tokens = 128, .num_blocks = 64},
                            {.running_max = 1, .waiting_max = 200, .prefix_cache = false});
  for (int index = 0; index < kRequests; ++index) {
    const RecordedRequest& request = together[static_cast<size_t>(index)];
    ASSERT_TRUE(request.done->ok()) << *request.done;
    ASSERT_EQ(request.choices, alone[static_cast<size_t>(index)].choices);
    if (index % 3 == 0) continue;
    const RunConstraint constraint(static_cast<size_t>(index % 5));
    for (const auto& [number, choice] : request.choices) {
      std::vector<TokenId> before;
      for (const TokenId token : choice.tokens) {
        ASSERT_TRUE(constraint.Allows(before, token));
        before.push_back(token);
      }
    }
  }
}

TEST(MaskedDrawsTest, AMaskThatFailsEndsItsRequestWithWhatItSaysAndNobodyElses) {
  FakeEngine engine({});
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = SchedulerLoop::Create(engine, {}, registry, sink);
  ASSERT_TRUE(loop.ok());
  for (int32_t fails_at = 0; fails_at < 3; ++fails_at) {
    Request fails = MakeRequest(static_cast<uint64_t>(2 * fails_at), MakePrompt(20), 8);
    fails.masks.push_back(RunConstraint::Mask(1, fails_at));
    Request other = MakeRequest(static_cast<uint64_t>(2 * fails_at + 1), MakePrompt(20), 8);
    other.masks.push_back(RunConstraint::Mask(1));
    ASSERT_EQ((*loop)->Submit(std::move(fails)), Admit::kAccepted);
    ASSERT_EQ((*loop)->Submit(std::move(other)), Admit::kAccepted);
    const auto failed = sink.Wait(RequestId{static_cast<uint64_t>(2 * fails_at)});
    EXPECT_EQ(*failed.done, absl::InvalidArgumentError("too hard"));
    const auto done = sink.Wait(RequestId{static_cast<uint64_t>(2 * fails_at + 1)});
    EXPECT_TRUE(done.done->ok()) << *done.done;
    EXPECT_EQ(done.choices.at(0).tokens.size(), 8u);
  }
}

TEST(MaskedDrawsTest, CancelsAndAStopWhileMasksAreFoundEndEveryRequest) {
  constexpr int kRequests = 40;
  FakeEngine engine({.num_blocks = 24});
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = SchedulerLoop::Create(engine, {.running_max = 6, .waiting_max = 100}, registry, sink);
  ASSERT_TRUE(loop.ok());
  for (int index = 0; index < kRequests; ++index) {
    ASSERT_EQ((*loop)->Submit(MakeMasked(index)), Admit::kAccepted);
    if (index % 2 == 1) (*loop)->Cancel(RequestId{static_cast<uint64_t>(index / 2)});
  }
  (*loop)->Stop();
  EXPECT_EQ(sink.num_done(), kRequests);
}

TEST(MaskedDrawsTest, ARequestHasAMaskForEachChoiceOrNone) {
  FakeEngine engine({});
  MetricsRegistry registry;
  SharedSink sink;
  auto loop = SchedulerLoop::Create(engine, {}, registry, sink);
  ASSERT_TRUE(loop.ok());
  Request request = MakeRequest(1, MakePrompt(20), 8);
  request.num_choices = 2;
  request.masks.push_back(RunConstraint::Mask(1));
  ASSERT_EQ((*loop)->Submit(std::move(request)), Admit::kAccepted);
  EXPECT_EQ(sink.Wait(RequestId{1}).done->code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace holdfast
