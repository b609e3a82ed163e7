#include "simulator/tally.h"

#include <algorithm>
#include <cmath>

#include "config/base/check.h"

namespace holdfast {
namespace {

bool Meets(const TurnRecord& record, const Slo& slo) {
  const auto within = [](const std::optional<int64_t>& bound, double nanos) {
    return !bound || nanos <= static_cast<double>(*bound);
  };
  return within(slo.ttft_nanos,
                static_cast<double>(record.first_token_nanos - record.arrival_nanos)) &&
         within(slo.tpot_nanos, record.tpot_nanos()) &&
         within(slo.e2e_nanos, static_cast<double>(record.end_nanos - record.arrival_nanos));
}

}  // namespace

void TenantTally::Merge(const TenantTally& other) {
  programs_done += other.programs_done;
  programs_cut += other.programs_cut;
  turns_done += other.turns_done;
  turns_refused += other.turns_refused;
  turns_failed += other.turns_failed;
  turns_cancelled += other.turns_cancelled;
  turns_abandoned += other.turns_abandoned;
  turns_good += other.turns_good;
  prompt_tokens += other.prompt_tokens;
  cached_tokens += other.cached_tokens;
  completion_tokens += other.completion_tokens;
  kept_tokens += other.kept_tokens;
  kept_recomputed_tokens += other.kept_recomputed_tokens;
  preemptions += other.preemptions;
  preempted_recomputed_tokens += other.preempted_recomputed_tokens;
  queue.Merge(other.queue);
  ttft.Merge(other.ttft);
  itl.Merge(other.itl);
  tpot.Merge(other.tpot);
  e2e.Merge(other.e2e);
  job.Merge(other.job);
}

Tally::Tally(size_t num_tenants) : tenants(2 * num_tenants), service(2 * num_tenants) {}

void Tally::AddTurn(const TurnRecord& record, const Slo& slo) {
  TenantTally& tenant = Of(record.tenant, record.offline);
  if (record.end == TurnEnd::kRefused) {
    ++tenant.turns_refused;
    return;
  }
  if (record.end == TurnEnd::kFailed) {
    ++tenant.turns_failed;
    return;
  }
  if (record.end == TurnEnd::kCancelled) {
    ++tenant.turns_cancelled;
    return;
  }
  if (record.end == TurnEnd::kAbandoned) {
    ++tenant.turns_abandoned;
    return;
  }
  ++tenant.turns_done;
  if (Meets(record, slo)) ++tenant.turns_good;
  tenant.prompt_tokens += record.prompt_tokens;
  tenant.cached_tokens += record.cached_tokens;
  tenant.completion_tokens += record.completion_tokens;
  tenant.kept_tokens += record.kept_tokens;
  tenant.kept_recomputed_tokens += std::max(record.kept_tokens - record.cached_tokens, 0);
  tenant.preemptions += record.preemptions;
  tenant.preempted_recomputed_tokens += record.recomputed_tokens;
  if (record.scheduled_nanos) tenant.queue.Add(*record.scheduled_nanos - record.arrival_nanos);
  tenant.ttft.Add(record.first_token_nanos - record.arrival_nanos);
  tenant.e2e.Add(record.end_nanos - record.arrival_nanos);
  if (record.completion_tokens > 1) tenant.tpot.Add(std::llround(record.tpot_nanos()));
}

void Tally::Merge(const Tally& other) {
  CHECK(tenants.size() == other.tenants.size());
  for (size_t i = 0; i < tenants.size(); ++i) tenants[i].Merge(other.tenants[i]);
  instances += other.instances;
  steps += other.steps;
  rows += other.rows;
  busy_nanos += other.busy_nanos;
  end_nanos = std::max(end_nanos, other.end_nanos);
  blocks += other.blocks;
  offloads += other.offloads;
  restores += other.restores;
  demotes += other.demotes;
  service.Merge(other.service);
  states.Merge(other.states);
}

}  // namespace holdfast
