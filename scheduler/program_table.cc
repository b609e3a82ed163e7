#include "scheduler/program_table.h"

#include <algorithm>
#include <utility>

#include "config/base/check.h"
#include "scheduler/policy/continuum.h"
#include "scheduler/policy/fixed_ttl.h"
#include "scheduler/policy/infercept.h"
#include "scheduler/policy/plas.h"

namespace holdfast {
namespace {

constexpr absl::Duration kSweepEvery = absl::Seconds(1);
constexpr int kForgottenAtOnceMax = 64;  // some 10 us

std::unique_ptr<PinPolicy> MakePinPolicy(const ProgramOptions& options) {
  switch (options.policy) {
    case SchedulerPolicy::kFixedTtl:
      return std::make_unique<FixedTtl>(options.fixed_ttl);
    case SchedulerPolicy::kInfercept:
      return std::make_unique<InferCept>();
    case SchedulerPolicy::kContinuum:
      return std::make_unique<Continuum>(options.published_ttl ? Continuum::Rule::kAsPublished
                                                               : Continuum::Rule::kOurs);
    case SchedulerPolicy::kFcfsLru:
    case SchedulerPolicy::kProgramFcfs:
    case SchedulerPolicy::kPlas:
      break;
  }
  return nullptr;
}

absl::Duration NotNegative(absl::Duration duration) {
  return std::max(duration, absl::ZeroDuration());
}

}  // namespace

ProgramTable::ProgramTable(const ProgramOptions& options, int32_t num_tenants,
                           ProgramMetrics* metrics)
    : options_(options), pin_policy_(MakePinPolicy(options)), metrics_(metrics) {
  CHECK(num_tenants > 0);
  for (int32_t i = 0; i < num_tenants; ++i) tenants_.emplace_back(options.ttl_max);
}

ProgramTable::Tenant& ProgramTable::Of(TenantIndex tenant) {
  return const_cast<Tenant&>(std::as_const(*this).Of(tenant));
}

const ProgramTable::Tenant& ProgramTable::Of(TenantIndex tenant) const {
  const auto index = static_cast<size_t>(static_cast<uint32_t>(Number(tenant)));
  CHECK(index < tenants_.size());
  return tenants_[index];
}

void ProgramTable::Advance(absl::Time now) { now_ = std::max(now_, now); }

Program& ProgramTable::OnArrive(TenantIndex tenant_index, const std::string& session,
                                uint64_t arrival, absl::Time now) {
  CHECK(!session.empty());
  Advance(now);
  Tenant& tenant = Of(tenant_index);
  std::unique_ptr<Program>& known = tenant.programs[session];
  if (known == nullptr) {
    known = std::make_unique<Program>();
    known->tenant = tenant_index;
    known->id = session;
    known->first_arrival = arrival;
    known->first_arrived = now_;
    known->last_finish = absl::InfinitePast();
  } else if (known->turns_in_flight == 0) {
    tenant.idle.erase(known->idle);
  }
  Program& program = *known;
  const bool is_named = !program.naming.has_value();
  StopNaming(program);
  if (std::exchange(program.tool_runs, false) && is_named) {
    const absl::Duration took = now_ - program.last_finish;
    tenant.estimator.OnToolDone(program.last_tool, took);
    if (metrics_ != nullptr) metrics_->OnToolDone(!program.last_tool.empty(), took);
  }
  ++program.turns_in_flight;
  return program;
}

void ProgramTable::AddFirstTurn(TenantIndex tenant_index, const std::string& session,
                                const FirstTurn& turn) {
  Tenant& tenant = Of(tenant_index);
  std::unique_ptr<Program>& known = tenant.programs[session];
  if (known != nullptr) return;  // its client names sessions after all
  known = std::make_unique<Program>();
  Program& program = *known;
  program.tenant = tenant_index;
  program.id = session;
  program.first_arrival = turn.arrival;
  program.first_arrived = turn.arrived;
  program.turns_ended = 1;
  program.last_finish = turn.finished;
  program.last_tool = turn.tool;
  program.tool_runs = true;
  program.service = NotNegative(turn.service);
  program.idle = tenant.idle.insert(tenant.idle.end(), &program);
  program.idle_since = now_;
}

void ProgramTable::OnFirstRun(Program& program, absl::Duration queued, bool had_live_pin) {
  CHECK(program.turns_in_flight > 0);
  program.queued += NotNegative(queued);
  // The first turn of a program has nothing to return to: its wait is no cost of a miss.
  if (program.turns_ended == 0) return;
  TtlEstimator& estimator = Of(program.tenant).estimator;
  estimator.OnFollowUp(queued, had_live_pin);
  if (metrics_ != nullptr) metrics_->OnEstimate(program.tenant, estimator);
}

TtlDecision ProgramTable::OnTurnEnd(Program& program, const EndedTurn& turn, absl::Time now) {
  CHECK(program.turns_in_flight > 0);
  Advance(now);
  ++program.turns_ended;
  program.last_finish = now_;
  program.last_tool.assign(turn.tool.substr(0, kToolNameBytesMax));
  program.service += NotNegative(turn.service);
  program.final |= turn.final;
  program.tool_runs = !program.final && program.turns_in_flight == 1;

  StopNaming(program);
  TtlDecision decision;
  if (!program.final) {
    Pause pause{.tool = program.last_tool,
                .context_tokens = turn.context_tokens,
                .other_tokens = turn.other_tokens,
                .reload = NotNegative(turn.reload)};
    decision = Decide(program, pause);
    if (turn.named_later) {
      program.naming = turn.named_later;
      program.pause = std::move(pause);
      program.unnamed = decision;
      CHECK(naming_.emplace(*turn.named_later, &program).second);
    } else {
      CountTtl(program, decision);
    }
  }
  LeaveFlight(program);
  return decision;
}

TtlDecision ProgramTable::Decide(const Program& program, const Pause& pause) const {
  TtlDecision decision;
  if (pin_policy_ == nullptr) return decision;
  decision = pin_policy_->Decide(pause, Of(program.tenant).estimator);
  decision.ttl = std::min(decision.ttl, options_.ttl_max);
  if (decision.ttl < absl::Seconds(TtlEstimator::kShortestSeconds)) {
    decision.ttl = absl::ZeroDuration();
  }
  return decision;
}

void ProgramTable::CountTtl(const Program& program, const TtlDecision& decision) {
  if (pin_policy_ == nullptr) return;
  TtlCount& count = Of(program.tenant).ttls[static_cast<size_t>(decision.source)];
  ++count.decided;
  if (decision.ttl > absl::ZeroDuration()) ++count.pinned;
  count.pinned_time += decision.ttl;
  if (metrics_ != nullptr) metrics_->OnTtl(decision);
}

std::optional<ProgramTable::Named> ProgramTable::NameTool(RequestId turn, std::string_view tool) {
  const auto found = naming_.find(turn);
  if (found == naming_.end()) return std::nullopt;
  Program& program = *found->second;
  program.last_tool.assign(tool.substr(0, kToolNameBytesMax));
  if (!program.last_tool.empty()) {
    program.pause.tool = program.last_tool;
    program.unnamed = Decide(program, program.pause);
  }
  StopNaming(program);
  return Named{.tenant = program.tenant,
               .session = program.id,
               .ended = program.last_finish,
               .ttl = program.unnamed.ttl};
}

void ProgramTable::StopNaming(Program& program) {
  if (!program.naming) return;
  naming_.erase(*std::exchange(program.naming, std::nullopt));
  CountTtl(program, program.unnamed);
}

void ProgramTable::OnTurnGone(Program& program, absl::Time now, absl::Duration service) {
  CHECK(program.turns_in_flight > 0);
  Advance(now);
  program.service += NotNegative(service);
  program.tool_runs = false;
  LeaveFlight(program);
}

void ProgramTable::LeaveFlight(Program& program) {
  if (--program.turns_in_flight > 0) return;
  Tenant& tenant = Of(program.tenant);
  program.idle = tenant.idle.insert(tenant.idle.end(), &program);
  program.idle_since = now_;
  if (program.final || program.turns_ended == 0) {
    Forget(program);
  } else if (tenant.idle.size() > kProgramsMax) {
    Forget(*tenant.idle.front());
  }
}

void ProgramTable::Forget(Program& program) {
  CHECK(program.turns_in_flight == 0);
  StopNaming(program);
  Tenant& tenant = Of(program.tenant);
  if (program.turns_ended > 0) {
    tenant.estimator.OnProgramEnd(program.turns_ended);
    if (metrics_ != nullptr) {
      metrics_->OnProgramEnd(program.last_finish - program.first_arrived);
      metrics_->OnEstimate(program.tenant, tenant.estimator);
    }
  }
  tenant.idle.erase(program.idle);
  const auto found = tenant.programs.find(program.id);
  CHECK(found != tenant.programs.end());
  tenant.programs.erase(found);
}

ProgramRank ProgramTable::RankOf(const Program& program, uint64_t request_arrival,
                                 absl::Duration waiting) const {
  switch (options_.policy) {
    case SchedulerPolicy::kFcfsLru:
      return {.arrival = request_arrival};
    case SchedulerPolicy::kPlas:
      return {.level = PlasLevel(program.service, program.queued + NotNegative(waiting)),
              .arrival = program.first_arrival};
    case SchedulerPolicy::kProgramFcfs:
    case SchedulerPolicy::kFixedTtl:
    case SchedulerPolicy::kInfercept:
    case SchedulerPolicy::kContinuum:
      break;
  }
  return {.arrival = program.first_arrival};
}

void ProgramTable::ForgetIdle(absl::Time now) {
  Advance(now);
  if (now_ < next_sweep_) return;
  int left = kForgottenAtOnceMax;
  for (Tenant& tenant : tenants_) {
    while (!tenant.idle.empty() && now_ - tenant.idle.front()->idle_since >= options_.idle_max) {
      if (left-- == 0) return;  // the rest with the next call
      Forget(*tenant.idle.front());
    }
  }
  next_sweep_ = now_ + kSweepEvery;
}

const Program* ProgramTable::Find(TenantIndex tenant, const std::string& session) const {
  const auto& programs = Of(tenant).programs;
  const auto found = programs.find(session);
  return found == programs.end() ? nullptr : found->second.get();
}

void ProgramTable::CheckInvariants() const {
  size_t num_naming = 0;
  for (const Tenant& tenant : tenants_) {
    size_t num_idle = 0;
    for (const auto& [session, program] : tenant.programs) {
      if (program->naming) {
        ++num_naming;
        CHECK(naming_.at(*program->naming) == program.get());
      }
      CHECK(program->id == session && program->turns_in_flight >= 0);
      CHECK(&Of(program->tenant) == &tenant);
      if (program->turns_in_flight > 0) {
        CHECK(!program->tool_runs);
        continue;
      }
      ++num_idle;
      CHECK(program->turns_ended > 0 && !program->final);
      CHECK(*program->idle == program.get());
    }
    CHECK(num_idle == tenant.idle.size() && num_idle <= kProgramsMax);
    CHECK(std::is_sorted(
        tenant.idle.begin(), tenant.idle.end(),
        [](const Program* a, const Program* b) { return a->idle_since < b->idle_since; }));
  }
  CHECK(num_naming == naming_.size());
}

}  // namespace holdfast
