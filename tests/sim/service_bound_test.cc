// The bound that policy/fair_share.h states, looked at after every step of random walks and under
// attack. The seed replays a failure.
#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/sim/bound_watch.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/sim/seed_note.h"
#include "tests/sim/sim_media.h"

namespace holdfast {
namespace {

int32_t Between(std::mt19937& rng, int32_t low, int32_t high) {
  return low + static_cast<int32_t>(rng() % static_cast<uint32_t>(high - low + 1));
}

// Tenants that send too much of everything: short and long, one or many choices, with pins, cancels
// and patience, over a pool that makes them preempt one another, with or without host memory.
class Crowd {
 public:
  explicit Crowd(uint32_t seed) : rng_(seed), setup_(MakeSetup()) {
    bench_ = std::make_unique<SchedulerBench>(setup_.engine, setup_.scheduler);
    mover_ = std::make_unique<SimMover>(bench_->engine, setup_.host.get(), nullptr, seed, 0);
    if (setup_.host) bench_->UseMover(*mover_);
    watch_ = std::make_unique<BoundWatch>(bench_->engine.info(), setup_.scheduler.tenants);
  }

  void Run() {
    for (int32_t step = 0; step < 400; ++step) {
      if (step % 100 == 0) DrawHabits();
      for (int32_t tenant = 0; tenant < num_tenants(); ++tenant) {
        while (Happens(habits_[static_cast<size_t>(tenant)].sends)) Arrive(TenantIndex{tenant});
      }
      while (Happens(3)) CancelAny();
      while (Happens(5) && bench_->FinishMove()) {
      }
      if (bench_->Plan()) bench_->Finish();
      watch_->Look(*bench_->scheduler);
      if (testing::Test::HasFatalFailure()) return;
    }
    bench_->scheduler->CheckInvariants();
    bench_->RunToEnd();
  }

  const BoundWatch& watch() const { return *watch_; }
  double preemptions() const {
    const std::string text = bench_->registry.Serialize();
    const std::string name = "\nholdfast_scheduler_preemptions_total ";
    return std::stod(text.substr(text.find(name) + name.size()));
  }

 private:
  struct Setup {
    FakeEngineOptions engine;
    SchedulerOptions scheduler;
    std::unique_ptr<SimTier> host;
  };
  struct Habits {  // of a tenant for a while; of eight
    uint32_t sends = 0, pins = 0, long_prompts = 0, long_answers = 0, cancels = 0;
  };

  bool Happens(uint32_t of_eight) { return rng_() % 8 < of_eight; }
  int32_t num_tenants() const { return static_cast<int32_t>(setup_.scheduler.tenants.size()); }

  Setup MakeSetup() {
    const auto between = [&](int32_t low, int32_t high) { return Between(rng_, low, high); };
    const int32_t longest = between(4, 16);
    const int32_t rows = between(16, 96);
    Setup setup;
    setup.engine = {.context_tokens = longest * kBlockTokens,
                    .num_blocks = longest + between(0, 32),
                    .num_sequence_slots = between(2, 16),
                    .step_tokens_max = rows};
    SchedulerOptions& scheduler = setup.scheduler;
    // A floor or a bound of rows for long prompts may hold a tenant back beyond any such bound.
    scheduler = {.running_max = 16,
                 .waiting_max = 200,
                 .step_tokens_max = rows,
                 .chunk_tokens_max = rows,
                 .long_prefill_tokens_max = rows};
    scheduler.policy = static_cast<SchedulerPolicy>(rng_() % kSchedulerPolicyNames.size());
    scheduler.order = static_cast<WaitOrder>(rng_() % kWaitOrderNames.size());
    for (int32_t i = between(2, 4); i > 0; --i) {
      scheduler.tenants.push_back(
          {.name = std::string(1, static_cast<char>('a' + i)), .weight = between(2, 8) / 4.0});
    }
    if (rng_() % 2 == 0) {
      setup.host = std::make_unique<SimTier>(TierKind::kHost, between(8, 64));
      scheduler.kv.host = setup.host.get();
    }
    return setup;
  }

  void DrawHabits() {
    habits_.assign(static_cast<size_t>(num_tenants()), {});
    for (Habits& habits : habits_) {
      habits = {.sends = static_cast<uint32_t>(Between(rng_, 1, 6)),
                .pins = static_cast<uint32_t>(Between(rng_, 0, 4)),
                .long_prompts = static_cast<uint32_t>(Between(rng_, 0, 8)),
                .long_answers = static_cast<uint32_t>(Between(rng_, 0, 8)),
                .cancels = static_cast<uint32_t>(Between(rng_, 0, 4))};
    }
  }

  void Arrive(TenantIndex tenant) {
    const Habits& habits = habits_[static_cast<size_t>(Number(tenant))];
    const int32_t context = setup_.engine.context_tokens;
    // Nothing shared but what the same tenant has sent before: who waits for another's prompt to
    // be computed is not kept from running by the tenants.
    const bool again = !sent_.empty() && Happens(1);
    const auto from = static_cast<TokenId>(again ? sent_[rng_() % sent_.size()] : next_id_);
    const int32_t size = Happens(habits.long_prompts) ? Between(rng_, context / 2, context - 2)
                                                      : Between(rng_, 1, context / 4);
    const int32_t room = context - size;
    Request request = MakeRequest(next_id_++, MakePrompt(size, from),
                                  Happens(habits.long_answers) ? room : Between(rng_, 1, 4));
    request.max_tokens = std::min(request.max_tokens, room);
    request.tenant = tenant;
    request.reuse_scope[0] = static_cast<uint8_t>(Number(tenant));
    if (Happens(habits.pins)) {
      request.session = std::to_string(rng_() % 20);
      request.retain = {.ttl = absl::Milliseconds(Between(rng_, 10, 3000))};
    }
    if (Happens(habits.cancels)) cancels_.push_back(request.id);
    sent_.push_back(Number(request.id));
    bench_->Submit(std::move(request));
  }

  void CancelAny() {
    if (cancels_.empty()) return;
    const size_t at = rng_() % cancels_.size();
    bench_->scheduler->Cancel(cancels_[at]);
    cancels_.erase(cancels_.begin() + static_cast<std::ptrdiff_t>(at));
  }

  std::mt19937 rng_;
  Setup setup_;
  std::unique_ptr<SchedulerBench> bench_;
  std::unique_ptr<SimMover> mover_;
  std::unique_ptr<BoundWatch> watch_;
  std::vector<Habits> habits_;
  std::vector<uint64_t> sent_;
  std::vector<RequestId> cancels_;
  uint64_t next_id_ = 1;
};

TEST(ServiceBoundTest, OfTwoTenantsThatWaitNeitherGetsFurtherAheadThanTheBoundOnRandomWalks) {
  int64_t num_looks = 0;
  double greatest = 0, preemptions = 0;
  for (uint32_t seed = 0; seed < 150; ++seed) {
    const SeedNote note("the walk", seed);
    Crowd crowd(seed);
    crowd.Run();
    if (HasFailure()) return;
    num_looks += crowd.watch().num_looks();
    greatest = std::max(greatest, crowd.watch().greatest());
    preemptions += crowd.preemptions();
  }
  RecordProperty("greatest_of_bound", std::to_string(greatest));
  // The walks are about what they are meant to be about.
  EXPECT_GT(num_looks, 20'000);
  EXPECT_GT(preemptions, 1'000);
  EXPECT_GT(greatest, 0.2);
}

}  // namespace
}  // namespace holdfast
