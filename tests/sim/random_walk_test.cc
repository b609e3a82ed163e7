// Promises 1 and 3 for scheduler and store together: whatever the arrivals, cancels, pool, chunks,
// budgets and shared prefixes, each request says what it says alone, with a large pool and no
// cache. The fake engine turns any wrong block into a wrong token. The seed replays a failure.
#include <array>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <utility>

#include "gtest/gtest.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/sim/seed_note.h"
#include "tests/sim/sim_media.h"

namespace holdfast {
namespace {

struct Expected {
  std::map<int32_t, RecordedChoice> choices;
  std::vector<TokenLogprob> prompt_logprobs;
  std::vector<float> pooled;
};

std::vector<TokenLogprob> ChosenOf(const std::optional<PromptEvent>& prompt) {
  std::vector<TokenLogprob> chosen;
  if (!prompt) return chosen;
  for (const PromptEvent::TokenWithTop& entry : prompt->prompt_logprobs) {
    chosen.push_back(entry.chosen);
  }
  return chosen;
}

Expected Alone(Request request, const FakeEngineOptions& engine) {
  request.tenant = {};
  request.retain.reset();
  SchedulerBench bench({.num_blocks = 512,
                        .repeats_of_8 = engine.repeats_of_8,
                        .repeat_period = engine.repeat_period},
                       {.prefix_cache = false});
  const RequestId id = request.id;
  CHECK(bench.Submit(request));
  bench.RunToEnd();
  CHECK(bench.sink[id].done->ok());
  return {.choices = bench.sink[id].choices,
          .prompt_logprobs = ChosenOf(bench.sink[id].prompt),
          .pooled = bench.sink[id].prompt->pooled};
}

bool IsPrefix(const std::vector<TokenId>& part, const std::vector<TokenId>& whole) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

// What a walk is made of, from its seed alone.
struct Setup {
  FakeEngineOptions engine;
  SchedulerOptions scheduler;
  std::unique_ptr<SimTier> host, disk;
  uint32_t fail_one_in = 0;
};

enum class Tiers : uint8_t { kNone, kSome };

int32_t Between(std::mt19937& rng, int32_t low, int32_t high) {
  return low + static_cast<int32_t>(rng() % static_cast<uint32_t>(high - low + 1));
}

Setup MakeSetup(std::mt19937& rng, Tiers tiers, const BlockKeyFunctions& keys) {
  const auto between = [&](int32_t low, int32_t high) { return Between(rng, low, high); };
  const int32_t longest = between(2, 8);
  Setup setup;
  setup.engine = {.context_tokens = longest * kBlockTokens,
                  .num_blocks = longest + between(0, 12),
                  .num_sequence_slots = between(1, 10),
                  .step_tokens_max = between(10, 80),
                  .repeats_of_8 = between(0, 8),
                  .repeat_period = between(1, 20)};
  setup.scheduler = {.running_max = between(1, 10),
                     .waiting_max = between(1, 12),
                     .step_tokens_max = between(1, 90),
                     .chunk_tokens_max = between(1, 60),
                     .tenants = {{.name = "free"},
                                 {.name = "bound", .running_max = between(1, 3), .waiting_max = 2},
                                 {.name = "long", .running_max = between(0, 2)}}};
  // Every policy must leave every answer as it is.
  SchedulerOptions& scheduler = setup.scheduler;
  scheduler.policy = static_cast<SchedulerPolicy>(rng() % kSchedulerPolicyNames.size());
  scheduler.order = static_cast<WaitOrder>(rng() % kWaitOrderNames.size());
  scheduler.bypass_max = between(1, 6);
  scheduler.pin_window = between(0, 3);
  scheduler.speculation = static_cast<Speculation>(rng() % kSpeculationNames.size());
  scheduler.draft_tokens_max = between(1, 12);
  scheduler.long_prefill_tokens_max = between(1, 60);
  scheduler.offline_step_tokens_max = between(1, 30);
  for (TenantConfig& tenant : scheduler.tenants) tenant.weight = between(1, 8) / 4.0;
  KvStoreOptions& kv = setup.scheduler.kv;
  kv.keys = keys;
  if (tiers == Tiers::kNone) return setup;
  if (rng() % 4 != 0) setup.host = std::make_unique<SimTier>(TierKind::kHost, between(1, 20));
  if (rng() % 3 != 0) setup.disk = std::make_unique<SimTier>(TierKind::kDisk, between(1, 40));
  setup.fail_one_in = rng() % 3 == 0 ? 0 : static_cast<uint32_t>(between(2, 20));
  kv.host = setup.host.get();
  kv.disk = setup.disk.get();
  kv.moves_max = between(1, 12);
  kv.low_water = between(0, 8) / 8.0;
  kv.pinned_max = between(0, 8) / 8.0;
  kv.tenants.resize(3);
  const int32_t spare = setup.engine.num_blocks - longest;
  kv.tenants[0].tiers[0].floor_blocks = between(0, spare / 2);
  kv.tenants[1].tiers[0].floor_blocks = between(0, spare / 2);
  for (TenantShares& tenant : kv.tenants) {
    for (TierShare& share : tenant.tiers) {
      if (rng() % 4 == 0) share.ceiling_blocks = share.floor_blocks + between(0, 10);
    }
  }
  return setup;
}

class Walk {
 public:
  explicit Walk(uint32_t seed, Tiers tiers = Tiers::kNone,
                const BlockKeyFunctions& keys = Xxh3BlockKeys())
      : rng_(seed),
        setup_(MakeSetup(rng_, tiers, keys)),
        context_(setup_.engine.context_tokens),
        bench_(setup_.engine, setup_.scheduler, keys),
        mover_(bench_.engine, setup_.host.get(), setup_.disk.get(), seed, setup_.fail_one_in) {
    if (tiers == Tiers::kSome) bench_.UseMover(mover_);
    with_sessions_ = tiers == Tiers::kSome;
    if (rng_() % 8 == 0) bench_.engine.FailStep(Between(0, 100));
  }

  void Run() {
    for (int step = 0; step < 150; ++step) {
      while (rng_() % 3 == 0) Arrive();
      while (rng_() % 8 == 0) CancelAny();
      while (rng_() % 8 == 0) StopAnyChoice();
      while (rng_() % 2 == 0 && bench_.FinishMove()) {
      }
      if (rng_() % 30 == 0) bench_.now += absl::Seconds(Between(-100, 100));
      if (bench_.Plan()) {
        while (rng_() % 8 == 0) CancelAny();
        while (rng_() % 8 == 0) StopAnyChoice();
        while (rng_() % 6 == 0) Arrive();
        if (rng_() % 2 == 0 && bench_.PlanAhead()) ++num_ahead_;
        while (rng_() % 8 == 0) CancelAny();
        while (rng_() % 8 == 0) StopAnyChoice();
        while (rng_() % 3 == 0 && bench_.FinishMove()) {
        }
        if (with_sessions_ && rng_() % 16 == 0) bench_.scheduler->DropPin(TenantIndex{0}, "b");
        bench_.Finish();
      }
      CheckCounts();
    }
    bench_.RunToEnd();
    CheckCounts();
    bench_.now += absl::Hours(24);  // all pins are over
    bench_.RunToEnd();
    EXPECT_EQ(bench_.scheduler->block_counts().held, 0);
    for (const Request& request : requests_) CheckRequest(request);
  }
  int64_t num_compared() const { return num_compared_; }
  int64_t num_pooled() const { return num_pooled_; }
  int64_t num_ahead() const { return num_ahead_; }
  int64_t num_copies() const { return bench_.engine.num_copies(); }
  int64_t num_drafts() const { return bench_.engine.num_drafts(); }
  const KvStore& store() const { return bench_.scheduler->store(); }
  const SimMover& mover() const { return mover_; }

 private:
  int32_t Between(int32_t low, int32_t high) { return holdfast::Between(rng_, low, high); }

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
    int32_t prompt_size = Between(1, context_ - 1);
    // Few kinds of block, so that prefixes are shared, cut at any place.
    while (static_cast<int32_t>(request.prompt.size()) < prompt_size) {
      const TokenId kind = Between(0, 1);
      for (int32_t i = 0; i < kBlockTokens; ++i) request.prompt.push_back(kind * 100 + i);
    }
    request.prompt.resize(static_cast<size_t>(prompt_size));
    if (with_sessions_) ContinueSession(request);
    prompt_size = static_cast<int32_t>(request.prompt.size());
    request.max_tokens = Between(1, context_ - prompt_size);
    if (rng_() % 3 == 0) {
      for (int i = 0; i < 40; ++i) request.stop_tokens.push_back(Between(0, 999));
    }
    if (rng_() % 5 == 0) request.num_choices = Between(2, 4);
    if (rng_() % 6 == 0) {
      request.prompt_top_logprobs = Between(0, 2);
      if (rng_() % 2 == 0) request.max_tokens = 0;
    }
    if (rng_() % 8 == 0) {
      request.pooling = rng_() % 2 == 0 ? Pooling::kLast : Pooling::kMean;
      request.max_tokens = 0;
    }
    if (rng_() % 4 == 0) request.sampling.top_logprobs = Between(0, 3);
    request.reuse_prefix = rng_() % 8 != 0;
    request.offline = rng_() % 6 == 0;
    if (rng_() % 4 == 0) request.priority = Between(-1, 1);
    request.sampling.seed = rng_();
    return request;
  }

  // Half of them go on where an earlier one has ended, as agents do.
  void ContinueSession(Request& request) {
    request.session = std::array{"", "a", "b"}[rng_() % 3];
    if (request.session.empty()) return;
    if (rng_() % 3 != 0) {
      request.retain = {.ttl = absl::Milliseconds(Between(0, 2000)), .priority = Between(0, 2)};
    }
    request.session_final = rng_() % 8 == 0;
    if (rng_() % 2 == 0) request.tool_hint = {.name = std::array{"ls", "web"}[rng_() % 2]};
    if (requests_.empty() || rng_() % 2 == 0) return;
    const Request& earlier = requests_[rng_() % requests_.size()];
    const RecordedRequest& said = bench_.sink[earlier.id];
    if (earlier.num_choices > 1 || !said.choices.contains(0)) return;
    std::vector<TokenId> prompt = earlier.prompt;
    const std::vector<TokenId>& completion = said.choices.at(0).tokens;
    prompt.insert(prompt.end(), completion.begin(), completion.end());
    prompt.push_back(Between(0, 999));
    if (static_cast<int32_t>(prompt.size()) >= context_) return;
    request.prompt = std::move(prompt);
    request.session = earlier.session;
    request.reuse_scope = earlier.reuse_scope;
    if (request.session.empty()) request.retain.reset();
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
    ASSERT_EQ(counts.free + counts.held + counts.evictable + counts.moving,
              bench_.engine.info().num_blocks);
  }

  void CheckRequest(const Request& request) {
    SCOPED_TRACE(testing::Message() << "request " << Number(request.id));
    const RecordedRequest& recorded = bench_.sink[request.id];
    ASSERT_TRUE(recorded.done.has_value());
    const absl::StatusCode code = recorded.done->code();
    ASSERT_TRUE(code == absl::StatusCode::kOk || code == absl::StatusCode::kCancelled ||
                code == absl::StatusCode::kResourceExhausted ||
                code == absl::StatusCode::kUnavailable);
    const Expected expected = Alone(request, setup_.engine);
    if (recorded.prompt) {
      ASSERT_EQ(ChosenOf(recorded.prompt), expected.prompt_logprobs);
      ASSERT_EQ(recorded.prompt->pooled, expected.pooled);
      num_pooled_ += request.pooling != Pooling::kNone ? 1 : 0;
      if (!request.reuse_prefix || request.prompt_top_logprobs ||
          request.pooling == Pooling::kMean) {
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
  const Setup setup_;
  const int32_t context_;
  SchedulerBench bench_;
  SimMover mover_;
  bool with_sessions_ = false;
  std::vector<Request> requests_;
  std::set<std::pair<RequestId, int32_t>> stopped_;  // or asked to: they may have ended before
  int64_t num_compared_ = 0;
  int64_t num_pooled_ = 0;
  int64_t num_ahead_ = 0;  // steps planned while another ran
};

TEST(RandomWalkTest, EachRequestSaysWhatItSaysAlone) {
  int64_t num_compared = 0, num_ahead = 0, num_drafts = 0, num_pooled = 0;
  for (uint32_t seed = 0; seed < 250; ++seed) {
    const SeedNote note("the walk", seed);
    Walk walk(seed);
    walk.Run();
    if (HasFailure()) return;
    num_compared += walk.num_compared();
    num_ahead += walk.num_ahead();
    num_drafts += walk.num_drafts();
    num_pooled += walk.num_pooled();
  }
  EXPECT_GT(num_pooled, 250);
  EXPECT_GT(num_ahead, 2500);
  EXPECT_GT(num_drafts, 5000);
  EXPECT_GT(num_compared, 2500);  // the walks are not all cancels and refusals
}

// Blocks leave the device and come back, late, in any order, or not at all; sessions go on and are
// dropped; clocks jump.
TEST(RandomWalkTest, EachRequestSaysWhatItSaysAloneWithTiersThatFail) {
  int64_t num_compared = 0;
  uint64_t num_restored = 0, num_demoted = 0, num_continued = 0, num_cut = 0;
  for (uint32_t seed = 2000; seed < 2400; ++seed) {
    const SeedNote note("the walk", seed);
    Walk walk(seed, Tiers::kSome);
    walk.Run();
    if (HasFailure()) return;
    num_compared += walk.num_compared();
    num_restored += walk.mover().num_done(MoveKind::kRestore);
    num_demoted += walk.mover().num_done(MoveKind::kDemote);
    num_continued += walk.store().pins().num_ended(PinEnd::kFinal);
    num_cut += walk.store().counters().restores_cut;
  }
  EXPECT_GT(num_compared, 3000);
  // All that can happen has happened.
  EXPECT_GT(num_restored, 1000u);
  EXPECT_GT(num_demoted, 100u);
  EXPECT_GT(num_continued, 100u);
  EXPECT_GT(num_cut, 20u);
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
    const SeedNote note("the walk", seed);
    Walk walk(seed, seed % 2 == 0 ? Tiers::kNone : Tiers::kSome, weak);
    walk.Run();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace holdfast
