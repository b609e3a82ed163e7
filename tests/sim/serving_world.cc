#include "tests/sim/serving_world.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "kvstore/eviction/cost_aware.h"
#include "kvstore/host_tier.h"
#include "tests/sim/metric_values.h"

namespace holdfast {
namespace {

constexpr size_t kHostSlotBytes = 4096;
constexpr uint64_t kEventsMax = 200'000;
constexpr int32_t kTriesMax = 4;
constexpr uint64_t kKillsMax = 4;  // of one run

std::vector<TenantConfig> Tenants() {
  return {{.name = "acme"}, {.name = "acm"}, {.name = "one"}, {.name = "other"}};
}

}  // namespace

Circumstances DrawCircumstances(uint32_t seed, const AgentTrace& trace) {
  std::mt19937 rng(seed ^ 0x5eed0000);
  const auto between = [&](int32_t low, int32_t high) {
    return low + static_cast<int32_t>(rng() % static_cast<uint32_t>(high - low + 1));
  };
  const auto one_in = [&](uint32_t count) { return rng() % count == 0; };
  const int32_t longest = trace.context_tokens / kBlockTokens;
  Circumstances how;
  how.engine = {.vocab_size = trace.vocab_size,
                .context_tokens = trace.context_tokens,
                .num_blocks = longest + between(0, one_in(2) ? 4 : 14),
                .num_sequence_slots = between(1, 10),
                .step_tokens_max = between(10, 80)};
  how.scheduler = {.running_max = between(1, 10),
                   .waiting_max = between(2, 20),
                   .step_tokens_max = between(4, 90),
                   .chunk_tokens_max = between(1, 60),
                   .tenants = Tenants()};
  if (one_in(3)) how.scheduler.tenants[1].running_max = between(1, 3);
  how.scheduler.policy = static_cast<SchedulerPolicy>(
      between(0, static_cast<int32_t>(kSchedulerPolicyNames.size()) - 1));
  how.scheduler.order =
      static_cast<WaitOrder>(between(0, static_cast<int32_t>(kWaitOrderNames.size()) - 1));
  how.scheduler.bypass_max = between(1, 6);
  how.scheduler.pin_window = between(0, 3);
  KvStoreOptions& kv = how.scheduler.kv;
  kv.moves_max = between(1, 12);
  kv.low_water = between(0, 8) / 8.0;
  kv.pinned_max = between(0, 8) / 8.0;
  if (one_in(2)) {
    kv.eviction = [](TierKind, int32_t capacity) {
      return std::make_unique<CostAwareEviction>(capacity, CostAwareOptions{});
    };
  }
  kv.tenants.resize(kTraceTenants);
  const int32_t spare = how.engine.num_blocks - longest;
  for (size_t i = 0; i < kv.tenants.size(); ++i) {
    TenantShares& tenant = kv.tenants[i];
    tenant.tag = {.low = i + 1};
    tenant.tiers[0].floor_blocks = between(0, spare / kTraceTenants);
    for (TierShare& share : tenant.tiers) {
      if (one_in(4)) share.ceiling_blocks = share.floor_blocks + between(0, 10);
    }
    if (one_in(4)) tenant.pinned_blocks_max = between(0, how.engine.num_blocks / 4);
  }
  if (!one_in(4)) how.host_slots = between(1, 20);
  if (!one_in(3)) how.disk_slots = between(1, 40);
  const auto rate = [&](uint32_t one_of) -> uint32_t {
    return one_in(one_of) ? static_cast<uint32_t>(between(3, 30)) : 0;
  };
  for (TierFaults* faults : {&how.host_faults, &how.disk_faults}) {
    if (one_in(3)) continue;
    *faults = {.put_fails = rate(3),
               .put_tears = rate(3),
               .put_goes_astray = rate(4),
               .fetch_fails = rate(3),
               .bit_flips = rate(3),
               .refuses = rate(4)};
  }
  how.moves.slow_one_in = rate(3);
  how.clients_interfere = !one_in(4);
  how.step_fails = one_in(5) ? static_cast<uint32_t>(between(20, 150)) : 0;
  how.clock_jumps = one_in(3) ? static_cast<uint32_t>(between(20, 100)) : 0;
  how.killed = one_in(3) ? static_cast<uint32_t>(between(100, 500)) : 0;
  return how;
}

Circumstances WithoutCache(const AgentTrace& trace) {
  constexpr int32_t kAll = 64;
  Circumstances how;
  how.engine = {.vocab_size = trace.vocab_size,
                .context_tokens = trace.context_tokens,
                .num_blocks = kAll * trace.context_tokens / kBlockTokens,
                .num_sequence_slots = kAll,
                .step_tokens_max = 1024};
  how.scheduler = {.running_max = kAll,
                   .waiting_max = 1000,
                   .step_tokens_max = 1024,
                   .prefix_cache = false,
                   .tenants = Tenants()};
  return how;
}

ServingWorld::ServingWorld(const AgentTrace& trace, const Circumstances& how, uint32_t seed)
    : trace_(trace), how_(how), rng_(seed), clients_(trace.agents.size()) {
  if (how.disk_slots > 0 && !how.real_disk) {
    disk_medium_ = std::make_unique<RecordDisk>(how.disk_slots, kSimBlockBytes);
    disk_ = std::make_unique<FaultyTier>(*disk_medium_, how.disk_faults, rng_(),
                                         [this](TierSlot slot) { return disk_medium_->Raw(slot); });
  }
  for (size_t agent = 0; agent < trace.agents.size(); ++agent) {
    events_.emplace(time_ + trace.agents[agent].arrives, Event{.submits = agent});
    marks_.emplace(trace.agents[agent].scope, trace.agents[agent].mark);
    // One scope for each that is meant, and no more.
    EXPECT_EQ(marks_.at(trace.agents[agent].scope), trace.agents[agent].mark);
  }
}

// --- A life.

void ServingWorld::Start() {
  SchedulerOptions options = how_.scheduler;
  if (how_.host_slots > 0) {
    auto host =
        HostTier::Create(how_.host_slots * static_cast<int64_t>(kHostSlotBytes), kSimBlockBytes);
    CHECK(host.ok());
    host_medium_ = *std::move(host);
    host_ =
        std::make_unique<FaultyTier>(*host_medium_, how_.host_faults, rng_(),
                                     [this](TierSlot slot) { return host_medium_->View(slot); });
  }
  const std::vector<RecoveredBlock> recovered = OpenDisk();
  options.kv.host = host_.get();
  options.kv.disk = disk_.get();
  bench_ = std::make_unique<SchedulerBench>(how_.engine, options);
  CHECK(bench_->engine.info().kv_layout.block_bytes() == kSimBlockBytes);
  mover_ =
      std::make_unique<TimedMover>(bench_->engine, host_.get(), disk_.get(), how_.moves, rng_());
  if (disk_ != nullptr) {
    const auto adoption = bench_->scheduler->AdoptDiskBlocks(recovered, Clock());
    totals_.adopted += static_cast<uint64_t>(adoption.adopted);
  }
  num_heard_ = 0;
  step_ends_.reset();
  next_planned_ = false;
}

std::vector<RecoveredBlock> ServingWorld::OpenDisk() {
  if (disk_medium_ != nullptr) {
    disk_->OnReopen();
    return disk_medium_->Reopen();
  }
  if (!how_.real_disk) return {};
  // Records of a page for the header and one for the block; few to a file, so that files come and
  // go and are compacted.
  constexpr int64_t kSegmentBytes = 4 * 2 * 4096;
  disk_.reset();
  real_disk_.reset();  // its directory is free
  if (directory_ == nullptr) directory_ = std::make_unique<TestDirectory>();
  auto opened = DiskTier::Open({.directory = directory_->path(),
                                .bytes_max = (4 + how_.disk_slots / 4) * kSegmentBytes,
                                .block_bytes = kSimBlockBytes,
                                .io = DiskIoKind::kThreads,
                                .io_depth = 1,
                                .segment_bytes = kSegmentBytes});
  CHECK(opened.ok());
  real_disk_ = *std::move(opened);
  disk_ =
      std::make_unique<FaultyTier>(*real_disk_, how_.disk_faults, rng_(), [this] { Scratch(); });
  return real_disk_->RecoveredBlocks();
}

// Somewhere on the real disk a byte goes bad.
void ServingWorld::Scratch() {
  const std::vector<std::filesystem::path> segments = directory_->segments();
  if (segments.empty()) return;
  std::fstream file(segments[rng_() % segments.size()],
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(0, std::ios::end);
  const auto size = static_cast<uint64_t>(file.tellg());
  if (size == 0) return;
  // The first bytes of a page, where header or block lie: the rest of it says nothing.
  const auto at =
      static_cast<std::streamoff>(rng_() % (size / 4096) * 4096 + rng_() % kSimBlockBytes);
  file.seekg(at);
  const int byte = file.get();
  file.seekp(at);
  file.put(static_cast<char>(byte ^ 4));
}

void ServingWorld::Run() {
  Start();
  while (HandleNext()) {
    if (++totals_.events > kEventsMax || testing::Test::HasFailure()) break;
  }
  ASSERT_LE(totals_.events, kEventsMax) << "somebody is starving";
  if (testing::Test::HasFailure()) return;
  ASSERT_TRUE(bench_->scheduler->idle());
  for (const Client& client : clients_) ASSERT_TRUE(client.over);
  time_ += absl::Hours(24);  // all pins are over
  do {
    StartStep();
    ASSERT_FALSE(step_ends_.has_value());
    while (mover_->next()) FinishMove();
    StartStep();
  } while (mover_->next());
  Check();
  CheckNothingLeaks();
  EndLife();
}

void ServingWorld::EndLife() {
  for (const auto& [id, live] : asked_) {
    attempts_.at(live.turn)[live.attempt].heard = bench_->sink[id];
  }
  CheckHits();
  HandOutMoves();
  bench_->scheduler->FailAll(absl::UnavailableError("the end"));
  EXPECT_EQ(bench_->scheduler->block_counts().held, 0);
  bench_->scheduler->CheckInvariants();
  CheckMetrics();
  const MetricValues values(bench_->registry);
  totals_.preemptions += static_cast<uint64_t>(values.Sum("holdfast_scheduler_preemptions_total"));
  const KvStore& store = bench_->scheduler->store();
  for (int32_t tenant = 0; tenant < kTraceTenants; ++tenant) {
    for (size_t t = 0; t < kNumPlaceTiers; ++t) {
      totals_.hit_tokens[t] += store.hit_tokens(TenantIndex{tenant})[t];
    }
  }
  for (size_t kind = 0; kind < totals_.moves_done.size(); ++kind) {
    totals_.moves_done[kind] += store.counters().moves[kind].done;
    totals_.moves_failed[kind] += store.counters().moves[kind].failed;
  }
  totals_.pins_continued += store.pins().num_ended(PinEnd::kFinal);
  totals_.copies += static_cast<uint64_t>(bench_->engine.num_copies());
  totals_.restores_cut += store.counters().restores_cut;
  totals_.dropped_without_copy += store.counters().dropped_without_copy;
  totals_.blocks_duplicate += store.counters().blocks_duplicate;
  for (FaultyTier* tier : {host_.get(), disk_.get()}) {
    if (tier == nullptr) continue;
    totals_.damaged += tier->TakeNumDamaged();
    totals_.found_out += tier->TakeNumFoundOut();
  }
  asked_.clear();
}

// Nobody hears of it, but that the connection is gone.
void ServingWorld::Kill() {
  ++totals_.kills;
  HandOutMoves();
  mover_->Kill([this](TierSlot slot) { disk_->Tear(slot); });
  const std::map<RequestId, Live> unanswered = std::exchange(live_, {});
  EndLife();
  for (const auto& [id, live] : unanswered) AskAgain(live.turn.agent);
  Start();
}

// --- Events.

bool ServingWorld::HandleNext() {
  std::optional<absl::Time> next = step_ends_;
  if (!events_.empty())
    next = std::min(next.value_or(absl::InfiniteFuture()), events_.begin()->first);
  if (mover_->next()) next = std::min(next.value_or(absl::InfiniteFuture()), *mover_->next());
  if (!next) return false;
  time_ = std::max(time_, *next);
  if (mover_->next() == next) {
    FinishMove();
  } else if (step_ends_ == next) {
    EndStep();
  } else {
    const Event event = events_.begin()->second;
    events_.erase(events_.begin());
    if (event.submits) Submit(*event.submits);
    if (event.cancels) Cancel(*event.cancels);
  }
  if (how_.clients_interfere) Interfere();
  if (Happens(how_.clock_jumps)) {
    skew_ += absl::Seconds(static_cast<int>(rng_() % 200) - 100);
    ++totals_.clock_jumps;
  }
  HearDone();
  Check();
  if (totals_.kills < kKillsMax && Happens(how_.killed)) Kill();
  // Several messages may be read before the next plan, as long as there will be a next.
  if (rng_() % 4 == 0 && (!events_.empty() || mover_->next())) return true;
  if (!step_ends_) {
    StartStep();
  } else if (rng_() % 2 == 0) {
    PlanAhead();
  }
  HearDone();
  Check();
  return true;
}

void ServingWorld::Submit(size_t agent_index) {
  const Agent& agent = trace_.agents[agent_index];
  Client& client = clients_[agent_index];
  const AgentTurn& turn = agent.turns[client.turn];
  Request request = turn.request;
  request.id = RequestId{next_request_++};
  request.tenant = agent.tenant;
  request.reuse_scope = agent.scope;
  request.session = agent.session;
  request.names_tool = rng_() % 2 == 0;
  request.prompt = Joined(client.history, turn.said);
  if (static_cast<int32_t>(request.prompt.size()) + request.max_tokens > trace_.context_tokens) {
    client.over = true;  // it has said all that fits
    return;
  }
  const Turn key{.agent = agent_index, .turn = client.turn};
  std::vector<Attempt>& attempts = attempts_[key];
  const Live live{.turn = key, .attempt = attempts.size()};
  attempts.push_back({.request = request});
  live_.emplace(request.id, live);
  asked_.emplace_back(request.id, live);
  ++totals_.requests;
  if (how_.clients_interfere && turn.patience) {
    events_.emplace(time_ + *turn.patience, Event{.cancels = request.id});
  }
  bench_->scheduler->Submit(std::move(request), Clock());
}

void ServingWorld::Cancel(RequestId request) {
  if (live_.contains(request) && mover_->restores()) ++totals_.cancelled_amid_moves;
  bench_->scheduler->Cancel(request);
}

void ServingWorld::StartStep() {
  const bool planned = bench_->scheduler->Plan(Clock(), bench_->plan);
  HandOutMoves();
  if (planned) RunStep();
}

void ServingWorld::PlanAhead() {
  if (next_planned_ || !bench_->scheduler->may_plan()) return;
  next_planned_ = bench_->scheduler->Plan(Clock(), bench_->next_plan);
  HandOutMoves();
  totals_.planned_ahead += next_planned_ ? 1 : 0;
}

void ServingWorld::RunStep() {
  const auto rows = static_cast<double>(bench_->plan.tokens.size());
  step_ends_ = time_ + absl::Milliseconds(2) + absl::Microseconds(100) * rows;
  // Moves that end meanwhile come before the step's reads and writes, or after them.
  const bool fails = Happens(how_.step_fails);
  if (fails) bench_->engine.FailStep(bench_->engine.num_steps());
  step_executed_ = !fails && rng_() % 2 == 0;
  if (step_executed_) step_status_ = bench_->engine.Execute(bench_->plan, bench_->result);
}

void ServingWorld::EndStep() {
  step_ends_.reset();
  if (!step_executed_) step_status_ = bench_->engine.Execute(bench_->plan, bench_->result);
  EXPECT_EQ(bench_->engine.num_foreign_reads(), 0)
      << "a sequence has read KV of another scope, or what nobody had computed";
  const bool runs_on = std::exchange(next_planned_, false);
  if (step_status_.ok()) {
    if (runs_on) {
      FillDraws(bench_->result, bench_->next_plan);
      std::swap(bench_->plan, bench_->next_plan);
    }
    bench_->scheduler->Commit(bench_->result, Clock());
    if (runs_on) RunStep();
    return;
  }
  ++totals_.steps_failed;
  bench_->scheduler->TakeAllMoves(jobs_);
  mover_->Take(jobs_, time_);
  mover_->ForgetDevice();
  bench_->scheduler->FailAll(absl::UnavailableError(step_status_.message()));
}

void ServingWorld::FinishMove() {
  bench_->scheduler->OnMoveDone(mover_->FinishNext(), Clock());
  if (rng_() % 2 == 0) HandOutMoves();
}

void ServingWorld::HandOutMoves() {
  bench_->scheduler->TakeMoves(jobs_);
  mover_->Take(jobs_, time_);
}

void ServingWorld::Interfere() {
  const RequestId any{rng_() % (next_request_ + 2)};
  if (Happens(100)) {
    if (const auto live = live_.find(any); live != live_.end()) {
      attempts_.at(live->second.turn)[live->second.attempt].stopped = true;
      ++totals_.stopped;
    }
    bench_->scheduler->StopChoice(any, static_cast<int32_t>(rng_() % 5) - 1);
  }
  if (Happens(100)) Cancel(any);
  if (Happens(8)) {  // some of them before the turn's end, some after the next has come
    const RequestId recent{next_request_ - std::min<uint64_t>(next_request_, rng_() % 8)};
    bench_->scheduler->NameTool(recent, rng_() % 3 == 0 ? "" : "tool", Clock());
  }
  const TenantIndex tenant{static_cast<int32_t>(rng_() % kTraceTenants)};
  if (Happens(80)) bench_->scheduler->DropPin(tenant, "a");
  if (Happens(300)) bench_->scheduler->DropPins(std::nullopt);
  if (Happens(50)) {
    const CacheReport report = bench_->scheduler->Report(tenant);
    int32_t blocks = 0;
    for (const CacheReport::Tenant& entry : report.tenants) blocks += entry.blocks[0];
    EXPECT_EQ(blocks, report.capacity[0] - report.device.free);
    for (const auto& pin : report.pins) EXPECT_EQ(pin.tenant, tenant);
  }
}

void ServingWorld::HearDone() {
  const std::vector<RequestId>& done = bench_->sink.order_done();
  for (; num_heard_ < done.size(); ++num_heard_) {
    const auto found = live_.find(done[num_heard_]);
    ASSERT_TRUE(found != live_.end());
    const Live live = found->second;
    live_.erase(found);
    const Attempt& attempt = attempts_.at(live.turn)[live.attempt];
    const RecordedRequest& heard = bench_->sink[attempt.request.id];
    if (heard.done->code() == absl::StatusCode::kCancelled) ++totals_.cancelled;
    if (!heard.done->ok() || attempt.stopped) {
      AskAgain(live.turn.agent);
      continue;
    }
    ++totals_.done_ok;
    Client& client = clients_[live.turn.agent];
    client.history = attempt.request.prompt;
    if (heard.choices.contains(0)) {
      client.history = Joined(std::move(client.history), heard.choices.at(0).tokens);
    }
    client.tries = 0;
    const std::vector<AgentTurn>& turns = trace_.agents[live.turn.agent].turns;
    if (++client.turn == turns.size()) {
      client.over = true;
    } else {
      events_.emplace(time_ + turns[client.turn].think, Event{.submits = live.turn.agent});
    }
  }
}

void ServingWorld::AskAgain(size_t agent) {
  Client& client = clients_[agent];
  if (++client.tries > kTriesMax) {
    client.over = true;
    return;
  }
  events_.emplace(time_ + absl::Milliseconds(30) * client.tries, Event{.submits = agent});
}

}  // namespace holdfast
