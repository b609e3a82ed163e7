#include "simulator/simulation_report.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "config/base/concat.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

using Json = nlohmann::ordered_json;

double Seconds(double nanos) { return nanos / 1e9; }

double Share(int64_t part, int64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

Json ToJson(const DurationHistogram& histogram) {
  Json json = {{"count", histogram.count()},
               {"mean", Seconds(histogram.mean())},
               {"min", Seconds(static_cast<double>(histogram.min()))}};
  for (const auto& [name, q] :
       {std::pair{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}}) {
    json[name] = Seconds(histogram.Quantile(q));
  }
  json["max"] = Seconds(static_cast<double>(histogram.max()));
  // For plots: at each hundredth.
  Json curve = Json::array();
  for (int percent = 1; percent <= 100 && histogram.count() > 0; ++percent) {
    curve.push_back(Seconds(histogram.Quantile(percent / 100.0)));
  }
  json["percentiles"] = std::move(curve);
  return json;
}

Json ToJson(const TenantTally& tenant, double seconds) {
  const auto per_second = [&](int64_t count) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
  };
  const int64_t turns = tenant.turns_done + tenant.turns_refused + tenant.turns_failed +
                        tenant.turns_cancelled + tenant.turns_abandoned;
  return {{"programs", {{"done", tenant.programs_done}, {"cut", tenant.programs_cut}}},
          {"turns",
           {{"done", tenant.turns_done},
            {"refused", tenant.turns_refused},
            {"failed", tenant.turns_failed},
            {"cancelled", tenant.turns_cancelled},
            {"abandoned", tenant.turns_abandoned},
            {"good", tenant.turns_good}}},
          {"goodput_per_second", per_second(tenant.turns_good)},
          {"good_share", Share(tenant.turns_good, turns)},
          {"tokens",
           {{"prompt", tenant.prompt_tokens},
            {"cached", tenant.cached_tokens},
            {"completion", tenant.completion_tokens},
            {"kept_of_turns_before", tenant.kept_tokens},
            {"kept_and_recomputed", tenant.kept_recomputed_tokens},
            {"recomputed_after_preemption", tenant.preempted_recomputed_tokens}}},
          {"completion_tokens_per_second", per_second(tenant.completion_tokens)},
          {"cached_share", Share(tenant.cached_tokens, tenant.prompt_tokens)},
          {"preemptions", tenant.preemptions},
          {"seconds",
           {{"queue", ToJson(tenant.queue)},
            {"ttft", ToJson(tenant.ttft)},
            {"itl", ToJson(tenant.itl)},
            {"tpot", ToJson(tenant.tpot)},
            {"e2e", ToJson(tenant.e2e)},
            {"job", ToJson(tenant.job)}}}};
}

Json StatesToJson(const StateSamples& states) {
  Json json = {{"window_seconds", Seconds(static_cast<double>(states.window_nanos()))}};
  for (size_t field = 0; field < InstanceState::kNumFields; ++field) {
    Json values = Json::array();
    for (const InstanceState& state : states.samples()) values.push_back(state.values[field]);
    json[StateFieldName(field)] = std::move(values);
  }
  return json;
}

// Of a tenant, online and offline.
int64_t ServiceOf(const AmountWindows& service, size_t tenant, size_t window) {
  return service.Amount(2 * tenant, window) + service.Amount(2 * tenant + 1, window);
}

Json ServiceToJson(const Workload& workload, const AmountWindows& service) {
  const size_t num_tenants = workload.tenants.size(), num_windows = service.num_windows();
  std::vector<int64_t> totals(num_tenants);
  Json jain = Json::array();
  for (size_t window = 0; window < num_windows; ++window) {
    std::vector<int64_t> of_window;
    for (size_t tenant = 0; tenant < num_tenants; ++tenant) {
      of_window.push_back(ServiceOf(service, tenant, window));
      totals[tenant] += of_window.back();
    }
    const std::optional<double> index = JainIndex(of_window);
    jain.push_back(index ? Json(*index) : Json());
  }
  std::vector<size_t> order(num_tenants);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return totals[a] > totals[b]; });
  Json tenants = Json::array();
  std::vector<int64_t> others(num_windows);
  for (size_t rank = 0; rank < order.size(); ++rank) {
    Json tokens = Json::array();
    for (size_t window = 0; window < num_windows; ++window) {
      const int64_t amount = ServiceOf(service, order[rank], window);
      if (rank < kTenantsOverTimeMax) tokens.push_back(amount);
      if (rank >= kTenantsOverTimeMax) others[window] += amount;
    }
    if (rank < kTenantsOverTimeMax) {
      tenants.push_back({{"tenant", workload.tenants[order[rank]]}, {"tokens", tokens}});
    }
  }
  Json json = {{"window_seconds", Seconds(static_cast<double>(service.window_nanos()))},
               {"jain_index", std::move(jain)},
               {"tenants", std::move(tenants)}};
  if (order.size() > kTenantsOverTimeMax) json["others"] = others;
  return json;
}

Json WorkloadToJson(const Workload& workload) {
  Json dropped = Json::object();
  for (const auto& [reason, rows] : workload.counts.dropped) dropped[reason] = rows;
  return {{"name", workload.name},
          {"file_sha256", workload.counts.file_sha256},
          {"rows_read", workload.counts.rows_read},
          {"rows_kept", workload.counts.rows_kept},
          {"rows_dropped", std::move(dropped)},
          {"programs", workload.programs.size()},
          {"turns", workload.num_turns()},
          {"tenants", workload.tenants.size()},
          {"assumptions", workload.assumptions}};
}

Json OptionalSeconds(const std::optional<int64_t>& nanos) {
  return nanos ? Json(Seconds(static_cast<double>(*nanos))) : Json();
}

Json ToJson(const Slo& slo) {
  return {{"ttft", OptionalSeconds(slo.ttft_nanos)},
          {"tpot", OptionalSeconds(slo.tpot_nanos)},
          {"e2e", OptionalSeconds(slo.e2e_nanos)}};
}

Json OptionsToJson(const FleetOptions& options) {
  const InstanceOptions& instance = options.instance;
  const SchedulerOptions& scheduler = instance.scheduler;
  return {
      {"instances", options.instances},
      {"router", RouterName(options.router)},
      {"seed", instance.seed},
      {"kv_blocks", instance.engine.num_blocks},
      {"kv_host_blocks", instance.host_blocks},
      {"kv_disk_blocks", instance.disk_blocks},
      {"context_tokens", instance.engine.context_tokens},
      {"running_max", scheduler.running_max},
      {"waiting_max", scheduler.waiting_max},
      {"step_tokens_max", scheduler.step_tokens_max},
      {"chunk_tokens_max", scheduler.chunk_tokens_max},
      {"prefix_cache", scheduler.prefix_cache},
      {"retain_seconds", instance.retain ? Json(absl::ToDoubleSeconds(*instance.retain)) : Json()},
      {"slo_seconds", ToJson(instance.slo)}};
}

// Online, offline and each tenant.
void AddParties(const Workload& workload, const Tally& tally, Json& json) {
  const double seconds = Seconds(static_cast<double>(tally.end_nanos));
  TenantTally online, offline;
  for (size_t i = 0; i < tally.tenants.size(); ++i) {
    (i % 2 == 0 ? online : offline).Merge(tally.tenants[i]);
  }
  json["online"] = ToJson(online, seconds);
  if (offline != TenantTally()) json["offline"] = ToJson(offline, seconds);
  Json tenants = Json::array();
  for (size_t i = 0; i < workload.tenants.size(); ++i) {
    Json tenant = {{"tenant", workload.tenants[i]},
                   {"online", ToJson(tally.tenants[2 * i], seconds)}};
    if (tally.tenants[2 * i + 1] != TenantTally()) {
      tenant["offline"] = ToJson(tally.tenants[2 * i + 1], seconds);
    }
    tenants.push_back(std::move(tenant));
  }
  json["tenants"] = std::move(tenants);
}

// Names come from traces: what is not UTF-8 is replaced rather than fatal.
std::string Dump(const Json& json) {
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::optional<double> JainIndex(const std::vector<int64_t>& service) {
  double sum = 0, squares = 0;
  int64_t served = 0;
  for (const int64_t amount : service) {
    if (amount <= 0) continue;
    const auto value = static_cast<double>(amount);
    sum += value;
    squares += value * value;
    ++served;
  }
  if (served == 0) return std::nullopt;
  return sum * sum / (static_cast<double>(served) * squares);
}

std::string FormatSimulationReport(const Workload& workload, const FleetOptions& options,
                                   const Tally& tally) {
  const double seconds = Seconds(static_cast<double>(tally.end_nanos));
  Json json = {
      {"format", 1},
      {"simulated", true},
      {"workload", WorkloadToJson(workload)},
      {"options", OptionsToJson(options)},
      {"profile", Json::parse(FormatCostProfile(options.instance.profile))},
      {"seconds_simulated", seconds},
      {"steps", tally.steps},
      {"rows", tally.rows},
      {"busy_share",
       seconds > 0 ? Seconds(static_cast<double>(tally.busy_nanos)) /
                         (seconds * static_cast<double>(std::max<int64_t>(tally.instances, 1)))
                   : 0.0},
      {"moves",
       {{"offloads", tally.offloads}, {"restores", tally.restores}, {"demotes", tally.demotes}}}};
  AddParties(workload, tally, json);
  json["blocks"] = tally.blocks;
  json["states_over_time"] = StatesToJson(tally.states);
  json["service_over_time"] = ServiceToJson(workload, tally.service);
  return Dump(json);
}

std::string FormatReplayReport(const Workload& workload, const ReplayFacts& facts,
                               const Tally& tally) {
  Json json = {
      {"format", 1},
      {"simulated", false},
      {"workload", WorkloadToJson(workload)},
      {"options",
       {{"server", facts.server},
        {"model", facts.model},
        {"seed", facts.seed},
        {"in_flight_max", facts.in_flight_max},
        {"retain_seconds", facts.retain ? Json(absl::ToDoubleSeconds(*facts.retain)) : Json()},
        {"slo_seconds", ToJson(facts.slo)}}},
      {"seconds", Seconds(static_cast<double>(tally.end_nanos))},
      {"cut_short", facts.cut_short},
      {"errors", facts.errors},
      {"send_delay_seconds", ToJson(facts.send_delay)}};
  AddParties(workload, tally, json);
  json["service_over_time"] = ServiceToJson(workload, tally.service);
  return Dump(json);
}

}  // namespace holdfast
