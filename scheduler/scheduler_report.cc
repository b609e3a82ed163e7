// What the scheduler shows of itself to people.
#include <algorithm>
#include <functional>
#include <queue>
#include <tuple>
#include <utility>

#include "scheduler/scheduler.h"

namespace holdfast {
namespace {

size_t IndexOf(TenantIndex tenant) { return static_cast<size_t>(Number(tenant)); }

}  // namespace

CacheReport Scheduler::Report(std::optional<TenantIndex> pins_of) const {
  CacheReport report{.device = store_.counts(),
                     .block_bytes = engine_.kv_layout.block_bytes(),
                     .num_moves = store_.num_moves()};
  report.capacity[TierAt(TierKind::kDevice)] = store_.capacity();
  for (const Tier* tier : {options_.kv.host, options_.kv.disk}) {
    if (tier != nullptr) report.capacity[TierAt(tier->kind())] = tier->capacity();
  }
  for (int32_t i = 0; i < num_tenants(); ++i) {
    const TenantIndex tenant{i};
    CacheReport::Tenant& entry = report.tenants.emplace_back();
    for (const TierKind tier : {TierKind::kDevice, TierKind::kHost, TierKind::kDisk}) {
      entry.blocks[TierAt(tier)] = store_.used_blocks(tier, tenant);
    }
    entry.hit_tokens = store_.hit_tokens(tenant);
    entry.pinned_blocks = store_.pins().num_blocks(tenant);
  }
  store_.pins().ForEach([&](const Pin& pin) {
    if (pins_of && pin.tenant != *pins_of) return;
    ++report.num_pins;
    if (report.pins.size() == kPinsReportedMax) return;
    report.pins.push_back({.tenant = pin.tenant,
                           .session = pin.session,
                           .state = pin.state,
                           .priority = pin.priority,
                           .created = pin.created,
                           .deadline = pin.deadline,
                           .num_blocks = static_cast<int32_t>(pin.blocks.size())});
  });
  return report;
}

QueueReport::Entry Scheduler::EntryOf(const Sequence& sequence, absl::Time now) {
  const ActiveRequest& active = *sequence.request;
  const Request& request = active.request;
  return {.request = request.id,
          .choice = sequence.order.choice,
          .tenant = request.tenant,
          .session = request.session,
          .priority = request.priority,
          .offline = request.offline,
          .prompt_tokens = active.prompt_size,
          .completion_tokens = sequence.num_completion,
          .age = std::max(now - active.submitted, absl::ZeroDuration()),
          .num_preempted = sequence.num_preempted};
}

QueueReport Scheduler::ReportQueue(absl::Time now, std::optional<TenantIndex> of) const {
  QueueReport report{.policy = options_.policy,
                     .order = options_.order,
                     .running = num_running(),
                     .running_max = running_max_,
                     .waiting = num_waiting(),
                     .waiting_requests = waiting_requests_,
                     .waiting_requests_max = options_.waiting_max,
                     .device = store_.counts(),
                     .pins = store_.pins().num_pins(),
                     .pinned_blocks = store_.pins().num_blocks()};
  for (size_t end = 0; end < kNumPinEnds; ++end) {
    report.pins_ended[end] = store_.pins().num_ended(static_cast<PinEnd>(end));
  }
  ReportTenants(report);
  for (const Sequence* sequence : running_) {
    const TenantIndex tenant = sequence->request->request.tenant;
    QueueReport::Tenant& entry = report.tenants[IndexOf(tenant)];
    ++entry.running;
    entry.blocks += static_cast<int32_t>(sequence->blocks.size());
    if (of && tenant != *of) continue;
    ++report.num_listed_running;
    if (report.running_entries.size() == kQueueEntriesMax) continue;
    QueueReport::Entry& listed = report.running_entries.emplace_back(EntryOf(*sequence, now));
    listed.computed_tokens = sequence->computed_tokens;
    listed.blocks = static_cast<int32_t>(sequence->blocks.size());
    listed.restoring = sequence->restoring;
  }
  ListWaiting(online_, now, of, report);
  ListWaiting(offline_, now, of, report);
  return report;
}

void Scheduler::ReportTenants(QueueReport& report) const {
  for (int32_t i = 0; i < num_tenants(); ++i) {
    const TenantIndex tenant{i};
    const TtlEstimator& known = programs_.estimator(tenant);
    const size_t num_programs = programs_.num_programs(tenant);
    report.tenants.push_back({.weight = online_.share.weight(tenant),
                              .served = online_.share.served(tenant),
                              .served_offline = offline_.share.served(tenant),
                              .running_requests = tenants_[tenant].running,
                              .waiting_requests = tenants_[tenant].waiting,
                              .pins = store_.pins().num_pins(tenant),
                              .pinned_blocks = store_.pins().num_blocks(tenant),
                              .programs = static_cast<int32_t>(num_programs),
                              .programs_paused = static_cast<int32_t>(programs_.num_idle(tenant)),
                              .tools = static_cast<int32_t>(known.num_tools()),
                              .tool_durations = static_cast<int32_t>(known.all_durations().size()),
                              .memoryfulness = known.memoryfulness(),
                              .queue_delay = known.queue_delay(),
                              .ttls = programs_.ttls(tenant)});
  }
}

// As the tenants' turns would come if each were charged for the prompts of those before.
void Scheduler::ListWaiting(const WaitingClass& from, absl::Time now, std::optional<TenantIndex> of,
                            QueueReport& report) const {
  std::vector<std::vector<const Sequence*>> lines(from.queues.size());
  using Turn = std::tuple<double, SequenceOrder, size_t, size_t>;  // served, whose, place in line
  std::priority_queue<Turn, std::vector<Turn>, std::greater<>> turns;
  for (size_t i = 0; i < lines.size(); ++i) {
    const TenantIndex tenant{static_cast<int32_t>(i)};
    const bool listed = !of || *of == tenant;
    QueueReport::Tenant& entry = report.tenants[i];
    from.queues[i].ForEach([&](const Sequence& sequence) {
      const auto reason = static_cast<size_t>(WhyWaits(sequence));
      ++entry.waiting;
      ++entry.waiting_by_reason[reason];
      ++report.waiting_by_reason[reason];
      if (!listed) return;
      ++report.num_listed_waiting;
      if (lines[i].size() < kQueueEntriesMax) lines[i].push_back(&sequence);
    });
    if (!lines[i].empty()) {
      turns.emplace(from.share.served(tenant), lines[i].front()->order, i, size_t{0});
    }
  }
  while (!turns.empty() && report.waiting_entries.size() < kQueueEntriesMax) {
    const auto [served, order, line, at] = turns.top();
    turns.pop();
    const Sequence& sequence = *lines[line][at];
    QueueReport::Entry& listed = report.waiting_entries.emplace_back(EntryOf(sequence, now));
    listed.reason = WhyWaits(sequence);
    listed.overtaken = from.queues[line].NumOvertakers(sequence);
    if (at + 1 == lines[line].size()) continue;
    const double weight = from.share.weight(TenantIndex{static_cast<int32_t>(line)});
    turns.emplace(served + ServiceCost().prefill * sequence.num_tokens() / weight,
                  lines[line][at + 1]->order, line, at + 1);
  }
}

}  // namespace holdfast
