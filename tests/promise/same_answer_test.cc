// Promise 1: the same request gets the same tokens and bitwise the same logprobs, however it is
// served. Forty requests and some for embeddings on the default model, each first computed alone
// without any cache; then all of them under one change of circumstance after the other. Needs the
// model (HOLDFAST_MODEL).

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/base/mailbox.h"
#include "config/base/mutex.h"
#include "engine/cpu_block_mover.h"
#include "engine/cpu_engine.h"
#include "engine/weights.h"
#include "gtest/gtest.h"
#include "kvstore/disk_tier.h"
#include "kvstore/tier_mover.h"
#include "scheduler/scheduler.h"
#include "tests/sim/hooked_host_tier.h"
#include "tests/sim/metric_values.h"

namespace holdfast {
namespace {

constexpr int kRequests = 48;
constexpr int kDrawing = 40;  // of those, the first; the others embed
constexpr int32_t kContextTokens = 320;

// All that a client can see of one choice.
struct Answer {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  std::vector<TokenLogprob> top;
  std::vector<float> pooled;
  bool operator==(const Answer&) const = default;  // floats compared exactly, as promised
};
using Answers = std::map<std::pair<uint64_t, int32_t>, Answer>;  // by request and choice

class Collector final : public TokenSink {
 public:
  void OnPrompt(PromptEvent event) override {
    cached_tokens += event.cached_tokens;
    if (!event.pooled.empty()) answers[{Number(event.request), 0}].pooled = std::move(event.pooled);
  }
  void OnToken(TokenEvent event) override {
    Answer& answer = answers[{Number(event.request), event.choice}];
    answer.tokens.push_back(event.token);
    answer.logprobs.push_back(event.logprob);
    answer.top.insert(answer.top.end(), event.top.begin(), event.top.end());
  }
  void OnDone(RequestDone event) override {
    const bool cancelled = absl::IsCancelled(event.status) && cancels.contains(event.request);
    EXPECT_TRUE(event.status.ok() || cancelled) << event.status;
    ended.emplace_back(event.request, event.status.ok());
    ++done;
  }
  Answers answers;
  std::set<RequestId> cancels;                    // were asked for
  std::vector<std::pair<RequestId, bool>> ended;  // and whether well
  int done = 0;
  int64_t cached_tokens = 0;
};

// The tiers below a tiny pool, and the mover's threads: as the daemon has them.
class LowerTiers final {
 public:
  LowerTiers(CpuEngine& engine, int32_t host_blocks)
      : device_(engine.kv_arena(), engine.info().kv_layout, engine.info().num_blocks),
        directory_(absl::StrCat(testing::TempDir(), "holdfast_promise_", getpid())) {
    const size_t block_bytes = engine.info().kv_layout.block_bytes();
    std::filesystem::remove_all(directory_);
    auto host = HostTier::Create(static_cast<int64_t>(host_blocks) * (block_bytes + 4096),
                                 block_bytes, engine.info().kv_layout.num_layers);
    auto disk = DiskTier::Open({.directory = directory_,
                                .bytes_max = int64_t{1} << 30,
                                .block_bytes = block_bytes,
                                .layout = engine.info().model_digest});
    CHECK(host.ok() && disk.ok());
    host_ = std::make_unique<HookedHostTier>(
        *std::move(host),
        [this](HostTier&, std::span<TierTransfer>, int32_t layer) { BeforeLayer(layer); });
    disk_ = *std::move(disk);
    const std::vector<Tier*> tiers = {host_.get(), disk_.get()};
    mover_ = std::make_unique<TierMover>(
        device_, tiers, TierMoverOptions{.block_bytes = block_bytes},
        [this](MoveDone&& done) { news_.PushUrgent(std::move(done)); },
        [this] { news_.PushUrgent(std::nullopt); });
  }
  ~LowerTiers() {
    LetLayersGo(true);
    mover_.reset();
    disk_.reset();
    std::filesystem::remove_all(directory_);
  }

  void AddTo(KvStoreOptions& kv) {
    kv.host = host_.get();
    kv.disk = disk_.get();
    kv.low_water = 0.25;
  }
  void HandOut(Scheduler& scheduler, const StepPlan& plan) {
    std::vector<MoveJob> jobs;
    scheduler.TakeMoves(jobs);
    if (std::ranges::any_of(plan.sequences,
                            [](const auto& part) { return part.gate != nullptr; })) {
      MutexLock lock(&mutex_);
      ++num_plans_ahead_;
      layers_go_.NotifyAll();
    }
    for (MoveJob& job : jobs) CHECK(mover_->TrySubmit(std::move(job)));
  }
  // What has ended so far; before each Commit.
  void Tell(Scheduler& scheduler) {
    std::vector<std::optional<MoveDone>> news;
    news_.TakeAll(news);
    for (const std::optional<MoveDone>& done : news) {
      if (done) scheduler.OnMoveDone(*done, absl::UnixEpoch());
    }
  }
  // False: nothing moves any more.
  bool Wait(Scheduler& scheduler) {
    if (scheduler.store().num_moves() == 0) return false;
    std::vector<std::optional<MoveDone>> news;
    LetLayersGo(true);
    news_.WaitTakeAll(news);
    LetLayersGo(false);
    for (const std::optional<MoveDone>& done : news) {
      if (done) scheduler.OnMoveDone(*done, absl::UnixEpoch());
    }
    return true;
  }

 private:
  void LetLayersGo(bool go) {
    MutexLock lock(&mutex_);
    nothing_to_plan_ = go;
    layers_go_.NotifyAll();
  }
  // When half of them are there a step may always be planned on top of them. The other half waits
  // until one is, however slow or fast the mover; or until there is nothing else to do.
  void BeforeLayer(int32_t layer) {
    MutexLock lock(&mutex_);
    if (layer == 0) plans_ahead_before_ = num_plans_ahead_;
    if (layer < (host_->num_layers() + 1) / 2) return;
    while (num_plans_ahead_ == plans_ahead_before_ && !nothing_to_plan_) layers_go_.Wait(&mutex_);
  }

  CpuBlockMover device_;
  const std::string directory_;
  std::unique_ptr<HookedHostTier> host_;
  std::unique_ptr<DiskTier> disk_;
  Mailbox<std::optional<MoveDone>> news_{1};  // nullopt: layers have come
  Mutex mutex_;
  CondVar layers_go_;
  int64_t num_plans_ahead_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t plans_ahead_before_ ABSL_GUARDED_BY(mutex_) = 0;
  bool nothing_to_plan_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<TierMover> mover_;  // goes first
};

// Prompts of many lengths, half of them behind one of two shared beginnings; greedy and drawn, with
// and without penalties and truncations, some with two choices.
std::vector<Request> MakeRequests(int32_t vocab_size) {
  std::mt19937 rng(20260101);
  const auto tokens = [&](int count) {
    std::vector<TokenId> out(count);
    for (TokenId& token : out) token = 100 + static_cast<TokenId>(rng() % (vocab_size - 100));
    return out;
  };
  const std::vector<TokenId> shared[2] = {tokens(48), tokens(150)};
  std::vector<Request> requests;
  for (int i = 0; i < kRequests; ++i) {
    Request request;
    request.id = RequestId(i + 1);
    if (i % 2 == 0) request.prompt = shared[(i / 2) % 2];
    const std::vector<TokenId> own = tokens(i % 5 == 0 ? 1 + i % 17 : 5 + rng() % 70);
    request.prompt.insert(request.prompt.end(), own.begin(), own.end());
    request.max_tokens = (i % 6 == 5 ? 56 : 4) + static_cast<int32_t>(rng() % 12);
    request.num_choices = i % 10 == 3 ? 2 : 1;
    SamplingParams& sampling = request.sampling;
    sampling.temperature = i % 3 == 0 ? 0.0f : 0.9f;
    sampling.seed = 1000 + i;
    sampling.top_logprobs = i % 4;
    if (i % 4 == 1) sampling.top_p = 0.9f;
    if (i % 4 == 2) sampling.top_k = 40;
    if (i % 6 == 1) sampling.min_p = 0.02f;
    if (i % 6 == 4) sampling.repetition_penalty = 1.2f;
    if (i % 7 == 2) sampling.presence_penalty = 0.5f;
    if (i >= kDrawing) {
      request.pooling = i / 2 % 2 == 0 ? Pooling::kLast : Pooling::kMean;
      request.max_tokens = 0;
      request.num_choices = 1;
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

struct Circumstance {
  std::string name;
  int32_t threads = 2;
  Isa isa = BestIsa();
  KvDtype kv_dtype = KvDtype::kF16;
  int32_t chunk_tokens = 512;
  int32_t step_tokens = 512;
  int32_t running = 16;
  int32_t pool_blocks = 2000;
  bool prefix_cache = true;
  int rounds = 1;  // the second meets a warm cache
  bool expect_preemption = false;
  int32_t host_blocks = 0;  // above 0: a host tier of so many, and a disk tier below it
  Speculation speculation = Speculation::kOff;
};

class SameAnswerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* path = std::getenv("HOLDFAST_MODEL");
    if (path == nullptr) return;
    absl::StatusOr<LoadedModel> model = LoadModel(path);
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = new LoadedModel(*std::move(model));
    alone_ = new std::map<KvDtype, Answers>;
  }
  static void TearDownTestSuite() {
    delete alone_;
    delete model_;
  }
  void SetUp() override {
    if (model_ == nullptr) GTEST_SKIP() << "HOLDFAST_MODEL is not set: no model to ask";
  }

  // Alone: one request at a time, nothing cached, the whole prompt in one chunk. Made once for each
  // type of KV, since the type is part of what is asked for, not of how it is served.
  static const Answers& Alone(KvDtype kv_dtype) {
    const auto [entry, fresh] = alone_->try_emplace(kv_dtype);
    if (!fresh) return entry->second;
    std::unique_ptr<CpuEngine> engine = MakeEngine(Circumstance{.kv_dtype = kv_dtype});
    for (const Request& request : MakeRequests(model_->config.vocab_size)) {
      const Answers answers =
          Serve(*engine, Circumstance{.running = 2, .prefix_cache = false}, {request});
      entry->second.insert(answers.begin(), answers.end());
    }
    return entry->second;
  }

  static std::unique_ptr<CpuEngine> MakeEngine(const Circumstance& c) {
    CpuEngineOptions options;
    options.threads = c.threads;
    options.isa = c.isa;
    options.kv_dtype = c.kv_dtype;
    options.context_tokens = kContextTokens;
    options.num_sequence_slots = 16;
    options.step_tokens_max = 512;
    const ModelConfig& config = model_->config;
    const KvLayout layout{.num_layers = config.num_layers,
                          .num_kv_heads = config.num_kv_heads,
                          .head_dim = config.head_dim,
                          .dtype = c.kv_dtype};
    options.kv_device_bytes = static_cast<int64_t>(layout.block_bytes()) * c.pool_blocks;
    absl::StatusOr<std::unique_ptr<CpuEngine>> engine = CpuEngine::Create(*model_, options);
    CHECK(engine.ok());
    return *std::move(engine);
  }

  static Answers Serve(CpuEngine& engine, const Circumstance& c, std::vector<Request> requests) {
    MetricsRegistry registry;
    SchedulerOptions options;
    options.running_max = c.running;
    options.waiting_max = 1000;
    options.step_tokens_max = c.step_tokens;
    options.chunk_tokens_max = c.chunk_tokens;
    options.prefix_cache = c.prefix_cache;
    options.speculation = c.speculation;
    std::unique_ptr<LowerTiers> tiers;
    if (c.host_blocks > 0) {
      tiers = std::make_unique<LowerTiers>(engine, c.host_blocks);
      tiers->AddTo(options.kv);
    }
    SchedulerMetrics metrics(registry, options, engine.info().num_blocks);
    Collector collector;
    auto scheduler = Scheduler::Create(engine.info(), options, metrics, collector);
    CHECK(scheduler.ok());
    StepPlan plan;
    StepResult result;
    Answers first_round;
    int num_ahead = 0;  // sequences that a step computed before all layers of their KV were back
    for (int round = 0; round < c.rounds; ++round) {
      if (round == 1) {
        first_round = std::exchange(collector.answers, {});
        collector.cached_tokens = 0;
      }
      for (const Request& request : requests) {
        EXPECT_TRUE((*scheduler)->Submit(Request(request), absl::UnixEpoch()));
      }
      do {
        while ((*scheduler)->Plan(absl::UnixEpoch(), plan)) {
          if (tiers) tiers->HandOut(**scheduler, plan);
          for (const PlanSequence& part : plan.sequences) num_ahead += part.gate != nullptr;
          CHECK(engine.Execute(plan, result).ok());
          if (tiers) tiers->Tell(**scheduler);
          (*scheduler)->Commit(result, absl::UnixEpoch());
        }
        if (tiers) tiers->HandOut(**scheduler, plan);
      } while (tiers && tiers->Wait(**scheduler));
      (*scheduler)->CheckInvariants();
    }
    EXPECT_EQ(collector.done, static_cast<int>(requests.size()) * c.rounds);
    EXPECT_EQ((*scheduler)->block_counts().held, 0);
    if (c.rounds > 1) {
      EXPECT_GT(collector.cached_tokens, 0);
      EXPECT_EQ(first_round, collector.answers);
    }
    if (tiers) {
      const auto& hits = (*scheduler)->store().hit_tokens({});
      EXPECT_GT(hits[TierAt(TierKind::kHost)], 0u);
      EXPECT_GT(hits[TierAt(TierKind::kDisk)], 0u);
      if ((*scheduler)->store().counters().restores_by_layers > 0) {
        EXPECT_GT(num_ahead, 0);
      }
      EXPECT_EQ((*scheduler)->store().counters().corrupt_blocks, 0u);
    }
    if (c.speculation == Speculation::kAlways) {
      const MetricValues values(registry);
      const double drafted = values.Sum("holdfast_scheduler_draft_tokens_total");
      const double accepted = values.Sum("holdfast_scheduler_accepted_draft_tokens_total");
      EXPECT_GT(accepted, 10);
      EXPECT_GT(drafted, accepted + 10);
    }
    const bool preempted =
        registry.Serialize().find("holdfast_scheduler_preemptions_total 0\n") == std::string::npos;
    // With tiers below, it hangs on how fast blocks come back beside the steps, hence on the clock.
    if (!tiers) {
      EXPECT_EQ(preempted, c.expect_preemption) << registry.Serialize();
    }
    return collector.answers;
  }

  void ExpectSameAsAlone(const Circumstance& c) {
    SCOPED_TRACE(c.name);
    const Answers& alone = Alone(c.kv_dtype);
    std::unique_ptr<CpuEngine> engine = MakeEngine(c);
    const Answers answers = Serve(*engine, c, MakeRequests(model_->config.vocab_size));
    ASSERT_EQ(answers.size(), alone.size());
    for (const auto& [id, answer] : answers) {
      const Answer& expected = alone.at(id);
      EXPECT_EQ(answer.tokens, expected.tokens) << "request " << id.first;
      EXPECT_TRUE(answer == expected) << "request " << id.first << ": logprobs differ in bits";
    }
  }

  static LoadedModel* model_;
  static std::map<KvDtype, Answers>* alone_;
};
LoadedModel* SameAnswerTest::model_ = nullptr;
std::map<KvDtype, Answers>* SameAnswerTest::alone_ = nullptr;

TEST_F(SameAnswerTest, TogetherAsAlone) { ExpectSameAsAlone({.name = "together"}); }

TEST_F(SameAnswerTest, WithoutPrefixCache) {
  ExpectSameAsAlone({.name = "no prefix cache", .prefix_cache = false});
}

TEST_F(SameAnswerTest, InChunksOfAnySize) {
  for (int32_t chunk : {7, 64, 512}) {
    ExpectSameAsAlone({.name = absl::StrCat("chunks of ", chunk), .chunk_tokens = chunk});
  }
}

TEST_F(SameAnswerTest, WithASmallTokenBudget) {
  ExpectSameAsAlone({.name = "budget 24", .chunk_tokens = 16, .step_tokens = 24});
}

TEST_F(SameAnswerTest, WithAnyNumberOfThreads) {
  for (int32_t threads : {1, 2, 3}) {
    ExpectSameAsAlone({.name = absl::StrCat(threads, " threads"), .threads = threads});
  }
}

TEST_F(SameAnswerTest, WithAWarmPrefixCache) {
  ExpectSameAsAlone({.name = "warm cache", .rounds = 2});
}

TEST_F(SameAnswerTest, AcrossPreemption) {
  ExpectSameAsAlone({.name = "tiny pool", .pool_blocks = 22, .expect_preemption = true});
}

TEST_F(SameAnswerTest, WithBlocksThatCameBackFromHostAndDisk) {
  ExpectSameAsAlone({.name = "host and disk", .pool_blocks = 22, .rounds = 2, .host_blocks = 30});
  ExpectSameAsAlone({.name = "i8, host and disk",
                     .kv_dtype = KvDtype::kI8,
                     .pool_blocks = 22,
                     .rounds = 2,
                     .host_blocks = 30});
}

// Right and wrong drafts, greedy and drawn, with penalties and logprobs: beside others and alone,
// across preemption, over what was found again, and with every number of threads.
TEST_F(SameAnswerTest, WithDrafts) {
  constexpr Speculation kAlways = Speculation::kAlways;
  ExpectSameAsAlone({.name = "drafts", .speculation = kAlways});
  ExpectSameAsAlone({.name = "drafts, 3 threads, chunks of 7, few beside each other",
                     .threads = 3,
                     .chunk_tokens = 7,
                     .running = 2,
                     .speculation = kAlways});
  ExpectSameAsAlone({.name = "drafts, host and disk",
                     .pool_blocks = 22,
                     .rounds = 2,
                     .host_blocks = 30,
                     .speculation = kAlways});
  ExpectSameAsAlone({.name = "drafts, i8, budget 24",
                     .kv_dtype = KvDtype::kI8,
                     .chunk_tokens = 16,
                     .step_tokens = 24,
                     .running = 4,
                     .speculation = kAlways});
  if (!IsaSupported(Isa::kAvx2)) return;
  ExpectSameAsAlone({.name = "drafts, avx2", .isa = Isa::kAvx2, .speculation = kAlways});
}

// Agents in simulated time, a step at a tick, over a tiny pool: they come while others compute,
// share a beginning, keep their turns or not, cancel and ask again, and come back with what was
// answered and a tool's result. Each turn is then asked alone.
TEST_F(SameAnswerTest, OfAgentsThatOverlapOverHostAndDisk) {
  struct ToolAgent {
    Request request;  // the turn that it asks, or asks next
    int32_t turns_left = 3;
    std::optional<int64_t> asks, leaves;  // ticks
    bool has_left = false;
  };
  const Circumstance c{.name = "agents", .running = 4, .pool_blocks = 24, .host_blocks = 16};
  std::mt19937 rng(20260102);
  const auto say = [&](std::vector<TokenId>& text, int count) {
    for (int i = 0; i < count; ++i) text.push_back(100 + static_cast<TokenId>(rng() % 40'000));
  };
  std::vector<TokenId> shared;
  say(shared, 70);
  std::vector<ToolAgent> agents(6);
  for (size_t i = 0; i < agents.size(); ++i) {
    Request& request = agents[i].request;
    request.prompt = shared;
    say(request.prompt, 20 + 9 * static_cast<int>(i));
    request.max_tokens = 6;
    request.sampling.temperature = 0.8f;
    request.sampling.seed = 50 + i;
    request.sampling.top_logprobs = 1;
    request.session = absl::StrCat("agent-", i);
    if (i % 2 == 0) request.retain = {.ttl = absl::Hours(1)};
    agents[i].asks = 2 * static_cast<int64_t>(i);
  }

  std::unique_ptr<CpuEngine> engine = MakeEngine(c);
  MetricsRegistry registry;
  SchedulerOptions options;
  options.running_max = c.running;
  LowerTiers tiers(*engine, c.host_blocks);
  tiers.AddTo(options.kv);
  SchedulerMetrics metrics(registry, options, engine->info().num_blocks);
  Collector collector;
  auto scheduler = Scheduler::Create(engine->info(), options, metrics, collector);
  ASSERT_TRUE(scheduler.ok());
  StepPlan plan;
  StepResult result;
  std::map<RequestId, Request> asked;
  size_t num_over = 0;
  for (int64_t tick = 0; num_over < agents.size(); ++tick) {
    ASSERT_LT(tick, 10'000);
    for (size_t i = 0; i < agents.size(); ++i) {
      ToolAgent& agent = agents[i];
      if (agent.asks && *agent.asks <= tick) {
        agent.asks.reset();
        agent.request.id = RequestId{asked.size() + 1};
        asked.emplace(agent.request.id, agent.request);
        ASSERT_TRUE((*scheduler)->Submit(Request(agent.request), absl::UnixEpoch()));
        if (i % 3 == 1 && agent.turns_left == 2 && !agent.has_left) agent.leaves = tick + 2;
      }
      if (agent.leaves == tick) {
        agent.has_left = true;
        collector.cancels.insert(agent.request.id);
        (*scheduler)->Cancel(agent.request.id);
      }
    }
    const bool planned = (*scheduler)->Plan(absl::UnixEpoch(), plan);
    tiers.HandOut(**scheduler, plan);
    if (planned) {
      ASSERT_TRUE(engine->Execute(plan, result).ok());
      tiers.Tell(**scheduler);
      (*scheduler)->Commit(result, absl::UnixEpoch());
    } else {
      (void)tiers.Wait(**scheduler);
    }
    (*scheduler)->CheckInvariants();
    for (const auto& [id, well] : std::exchange(collector.ended, {})) {
      const auto agent = std::find_if(agents.begin(), agents.end(),
                                      [&, id = id](const auto& a) { return a.request.id == id; });
      ASSERT_TRUE(agent != agents.end());
      if (well) {
        const std::vector<TokenId>& said = collector.answers.at({Number(id), 0}).tokens;
        agent->request.prompt.insert(agent->request.prompt.end(), said.begin(), said.end());
        say(agent->request.prompt, 8 + static_cast<int>(rng() % 12));
        if (--agent->turns_left == 0) ++num_over;
      }
      if (agent->turns_left > 0) agent->asks = tick + 2;
    }
  }
  while (tiers.Wait(**scheduler)) {
  }
  const KvStore& store = (*scheduler)->store();
  const auto& hits = store.hit_tokens({});
  EXPECT_GT(hits[TierAt(TierKind::kHost)] + hits[TierAt(TierKind::kDisk)], 0u);
  EXPECT_GT(store.pins().num_ended(PinEnd::kFinal), 0u);
  EXPECT_EQ(store.counters().corrupt_blocks, 0u);
  EXPECT_GT(asked.size(), 18u);  // somebody has asked again

  for (auto& [id, request] : asked) {
    SCOPED_TRACE(absl::StrCat("request ", Number(id)));
    request.session.clear();
    request.retain.reset();
    const Answers alone =
        Serve(*engine, Circumstance{.running = 2, .prefix_cache = false}, {request});
    const Answer& expected = alone.at({Number(id), 0});
    const Answer& answer = collector.answers[{Number(id), 0}];
    if (collector.cancels.contains(id)) {
      ASSERT_LE(answer.tokens.size(), expected.tokens.size());
      EXPECT_TRUE(std::equal(answer.tokens.begin(), answer.tokens.end(), expected.tokens.begin()));
    } else {
      EXPECT_TRUE(answer == expected) << "tokens or logprobs differ in bits";
    }
  }
}

TEST_F(SameAnswerTest, OfSeveralChoicesAsOfOneRequestEach) {
  Request several = MakeRequests(model_->config.vocab_size)[2];
  several.num_choices = 4;
  several.max_tokens = 20;  // across the end of the block that was copied
  several.sampling.temperature = 0.9f;
  const Circumstance c{.name = "n = 4"};
  std::unique_ptr<CpuEngine> engine = MakeEngine(c);
  const Answers answers = Serve(*engine, c, {several});
  ASSERT_EQ(answers.size(), 4u);
  for (int32_t choice = 0; choice < 4; ++choice) {
    Request one = several;
    one.num_choices = 1;
    one.sampling.seed += static_cast<uint64_t>(choice);
    const Answers alone = Serve(*engine, Circumstance{.running = 2, .prefix_cache = false}, {one});
    EXPECT_TRUE(answers.at({Number(several.id), choice}) == alone.at({Number(one.id), 0}))
        << "choice " << choice;
  }
}

TEST_F(SameAnswerTest, OnEveryFastInstructionPath) {
  for (Isa isa : kIsas) {
    if (isa == Isa::kScalar || !IsaSupported(isa)) continue;
    ExpectSameAsAlone({.name = IsaName(isa), .isa = isa});
  }
}

TEST_F(SameAnswerTest, WithKvOfInt8) {
  constexpr KvDtype kI8 = KvDtype::kI8;
  EXPECT_FALSE(Alone(kI8) == Alone(KvDtype::kF16));  // or the type would not have been taken
  ExpectSameAsAlone({.name = "i8, 3 threads, budget 24",
                     .threads = 3,
                     .kv_dtype = kI8,
                     .chunk_tokens = 16,
                     .step_tokens = 24});
  ExpectSameAsAlone({.name = "i8, warm cache", .kv_dtype = kI8, .chunk_tokens = 7, .rounds = 2});
  ExpectSameAsAlone({.name = "i8, tiny pool, another instruction path",
                     .isa = IsaSupported(Isa::kAvx2) ? Isa::kAvx2 : BestIsa(),
                     .kv_dtype = kI8,
                     .pool_blocks = 22,
                     .expect_preemption = true});
}

}  // namespace
}  // namespace holdfast
