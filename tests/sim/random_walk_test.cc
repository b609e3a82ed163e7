// Promises 1 and 3 for scheduler and store together: whatever the arrivals, cancels, pool, chunks,
// budgets and shared prefixes, each request says what it says alone, with a large pool and no
// cache. The fake engine turns any wrong block into a wrong token. The seed replays a failure.
#include <map>
#include <random>
#include <set>
#include <utility>

#include "gtest/gtest.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

struct Expected {
  std::map<int32_t, RecordedChoice> choices;
  std::vector<TokenLogprob> prompt_logprobs;
};

std::vector<TokenLogprob> ChosenOf(const std::optional<PromptEvent>& prompt) {
  std::vector<TokenLogprob> chosen;
  if (!prompt) return chosen;
  for (const PromptEvent::TokenWithTop& entry : prompt->prompt_logprobs) {
    chosen.push_back(entry.chosen);
  }
  return chosen;
}

Expected Alone(Request request) {
  request.tenant = {};
  SchedulerBench bench({.num_blocks = 512}, {.prefix_cache = false});
  const RequestId id = request.id;
  CHECK(bench.Submit(request));
  bench.RunToEnd();
  CHECK(bench.sink[id].done->ok());
  return {.choices = bench.sink[id].choices, .prompt_logprobs = ChosenOf(bench.sink[id].prompt)};
}

bool IsPrefix(const std::vector<TokenId>& part, const std::vector<TokenId>& whole) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

class Walk {
 public:
  explicit Walk(uint32_t seed, BlockKeyFunctions keys = Xxh3BlockKeys())
      : rng_(seed),
        context_(Between(2, 8) * kBlockTokens),
        bench_({.context_tokens = context_,
                .num_blocks = context_ / kBlockTokens + Between(0, 12),
                .num_sequence_slots = Between(1, 10),
                .step_tokens_max = Between(10, 80)},
               {.running_max = Between(1, 10),
                .waiting_max = Between(1, 12),
                .step_tokens_max = Between(1, 90),
                .chunk_tokens_max = Between(1, 60),
                .tenants = {{.name = "free"},
                            {.name = "bound", .running_max = Between(1, 3), .waiting_max = 2},
                            {.name = "long", .running_max = Between(0, 2)}}},
               keys) {
    if (rng_() % 8 == 0) bench_.engine.FailStep(Between(0, 100));
  }

  void Run() {
    for (int step = 0; step < 150; ++step) {
      while (rng_() % 3 == 0) Arrive();
      while (rng_() % 8 == 0) CancelAny();
      while (rng_() % 8 == 0) StopAnyChoice();
      if (bench_.scheduler->Plan(bench_.now, bench_.plan)) {
        while (rng_() % 8 == 0) CancelAny();
        while (rng_() % 8 == 0) StopAnyChoice();
        while (rng_() % 6 == 0) Arrive();
        bench_.Finish();
      }
      CheckCounts();
    }
    bench_.RunToEnd();
    CheckCounts();
    EXPECT_EQ(bench_.scheduler->block_counts().held, 0);
    for (const Request& request : requests_) CheckRequest(request);
  }
  int64_t num_compared() const { return num_compared_; }

 private:
  int32_t Between(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(rng_() % static_cast<uint32_t>(high - low + 1));
  }

  void Arrive() {
    const TenantIndex tenant{Between(0, 2)};
    const int32_t count = rng_() % 6 == 0 ? Between(2, 4) : 1;
    std::vector<Request> together;
    for (int32_t i = 0; i < count; ++i) {
      together.push_back(Make(tenant));
      requests_.push_back(together.back());
    }
    bench_.scheduler->SubmitAll(std::move(together), bench_.now);
  }

  Request Make(TenantIndex tenant) {
    Request request;
    request.id = RequestId{requests_.size() + 1};
    request.tenant = tenant;
    request.reuse_scope[0] = static_cast<uint8_t>(Between(0, 1));
    const int32_t prompt_size = Between(1, context_ - 1);
    // Few kinds of block, so that prefixes are shared, cut at any place.
    while (static_cast<int32_t>(request.prompt.size()) < prompt_size) {
      const TokenId kind = Between(0, 1);
      for (int32_t i = 0; i < kBlockTokens; ++i) request.prompt.push_back(kind * 100 + i);
    }
    request.prompt.resize(static_cast<size_t>(prompt_size));
    request.max_tokens = Between(1, context_ - prompt_size);
    if (rng_() % 3 == 0) {
      for (int i = 0; i < 40; ++i) request.stop_tokens.push_back(Between(0, 999));
    }
    if (rng_() % 5 == 0) request.num_choices = Between(2, 4);
    if (rng_() % 6 == 0) {
      request.prompt_top_logprobs = Between(0, 2);
      if (rng_() % 2 == 0) request.max_tokens = 0;
    }
    if (rng_() % 4 == 0) request.sampling.top_logprobs = Between(0, 3);
    request.reuse_prefix = rng_() % 8 != 0;
    request.sampling.seed = rng_();
    return request;
  }

  void StopAnyChoice() {
    const RequestId id{
        static_cast<uint64_t>(Between(0, static_cast<int32_t>(requests_.size()) + 1))};
    const int32_t choice = Between(-1, 4);
    stopped_.insert({id, choice});
    bench_.scheduler->StopChoice(id, choice);
  }

  void CancelAny() {  // late, twice and for the unknown, too
    bench_.scheduler->Cancel(
        RequestId{static_cast<uint64_t>(Between(0, static_cast<int32_t>(requests_.size()) + 1))});
  }

  void CheckCounts() {
    bench_.scheduler->CheckInvariants();
    const BlockCounts counts = bench_.scheduler->block_counts();
    ASSERT_EQ(counts.free + counts.held + counts.evictable, bench_.engine.info().num_blocks);
  }

  void CheckRequest(const Request& request) {
    SCOPED_TRACE(testing::Message() << "request " << Number(request.id));
    const RecordedRequest& recorded = bench_.sink[request.id];
    ASSERT_TRUE(recorded.done.has_value());
    const absl::StatusCode code = recorded.done->code();
    ASSERT_TRUE(code == absl::StatusCode::kOk || code == absl::StatusCode::kCancelled ||
                code == absl::StatusCode::kResourceExhausted ||
                code == absl::StatusCode::kUnavailable);
    const Expected expected = Alone(request);
    if (recorded.prompt) {
      ASSERT_EQ(ChosenOf(recorded.prompt), expected.prompt_logprobs);
      if (!request.reuse_prefix || request.prompt_top_logprobs) {
        ASSERT_EQ(recorded.prompt->cached_tokens, 0);
      }
    }
    if (code == absl::StatusCode::kOk) {
      ASSERT_TRUE(recorded.prompt.has_value());
      for (const auto& [index, choice] : expected.choices) {
        if (stopped_.contains({request.id, index})) continue;
        ASSERT_EQ(recorded.choices.at(index), choice);
      }
      ++num_compared_;
    }
    for (const auto& [index, choice] : recorded.choices) {
      ASSERT_TRUE(IsPrefix(choice.tokens, expected.choices.at(index).tokens));
    }
  }

  std::mt19937 rng_;
  const int32_t context_;
  SchedulerBench bench_;
  std::vector<Request> requests_;
  std::set<std::pair<RequestId, int32_t>> stopped_;  // or asked to: they may have ended before
  int64_t num_compared_ = 0;
};

TEST(RandomWalkTest, EachRequestSaysWhatItSaysAlone) {
  int64_t num_compared = 0;
  for (uint32_t seed = 0; seed < 250; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Walk walk(seed);
    walk.Run();
    if (HasFailure()) return;
    num_compared += walk.num_compared();
  }
  EXPECT_GT(num_compared, 2500);  // the walks are not all cancels and refusals
}

TEST(RandomWalkTest, EachRequestSaysWhatItSaysAloneWithAHashThatCollides) {
  const BlockKeyFunctions weak = {
      .root = [](const ReuseScope&) { return BlockKey{}; },
      .next =
          [](const BlockKey& parent, BlockTokens tokens) {
            return BlockKey{.low = (parent.low + static_cast<uint64_t>(tokens[0]) + 1) % 5};
          },
  };
  for (uint32_t seed = 1000; seed < 1100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Walk walk(seed, weak);
    walk.Run();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace holdfast
