#include "server/http_admin.h"

#include <boost/asio/this_coro.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "scheduler/kv_metrics.h"
#include "server/http_call.h"
#include "server/http_router.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

// The document is made where it is sent, not on the scheduler's thread, which gives what is in it.
using Answer = absl::StatusOr<std::function<std::string()>>;

Json TierJson(const KvView::Tier& tier) {
  return {{"blocks", tier.blocks}, {"bytes", tier.bytes}, {"hit_tokens", tier.hit_tokens}};
}

Json KvJson(const KvView& view) {
  Json json = Json::object();
  json["object"] = "kv_cache";
  json["block_tokens"] = kBlockTokens;
  json["block_bytes"] = view.block_bytes;
  if (view.whole) {
    Json tiers = Json::object();
    for (size_t i = 0; i < kKvPlaceTiers; ++i) {
      tiers[kKvTierNames[i]] = {{"capacity_blocks", view.whole->capacity[i].blocks},
                                {"capacity_bytes", view.whole->capacity[i].bytes}};
    }
    Json& device = tiers[kKvTierNames[0]];
    device["free_blocks"] = view.whole->free_blocks;
    device["held_blocks"] = view.whole->held_blocks;
    device["evictable_blocks"] = view.whole->evictable_blocks;
    device["moving_blocks"] = view.whole->moving_blocks;
    json["tiers"] = std::move(tiers);
    json["moves"] = view.whole->num_moves;
  }
  json["tenants"] = Json::array();
  for (const KvView::Tenant& tenant : view.tenants) {
    Json one = Json::object();
    one["tenant"] = tenant.name;
    for (size_t i = 0; i < kKvTierNames.size(); ++i) {
      Json& tier = one["tiers"][kKvTierNames[i]] = TierJson(tenant.tiers[i]);
      if (i < kKvPlaceTiers) continue;
      tier.erase("blocks");
      tier.erase("bytes");
    }
    one["pinned_blocks"] = tenant.pinned_blocks;
    one["pinned_bytes"] = tenant.pinned_bytes;
    json["tenants"].push_back(std::move(one));
  }
  json["pins"] = view.num_pins;
  return json;
}

Json PinsJson(const KvView& view) {
  Json json = Json::object();
  json["object"] = "list";
  json["data"] = Json::array();
  for (const KvView::Pin& pin : view.pins) {
    json["data"].push_back({{"object", "kv_pin"},
                            {"tenant", pin.tenant},
                            {"session", pin.session},
                            {"state", pin.state},
                            {"priority", pin.priority},
                            {"blocks", pin.blocks},
                            {"bytes", pin.bytes},
                            {"created", absl::ToUnixSeconds(pin.created)},
                            {"expires_in_ms", absl::ToInt64Milliseconds(pin.expires_in)}});
  }
  json["total"] = view.num_pins;
  return json;
}

Json ReasonsJson(const QueueReport::Reasons& reasons) {
  Json json = Json::object();
  for (size_t i = 0; i < kNumWaitReasons; ++i) {
    json[WaitReasonName(static_cast<WaitReason>(i))] = reasons[i];
  }
  return json;
}

Json WholeJson(const QueueReport& report) {
  Json ended = Json::object();
  for (size_t i = 0; i < kNumPinEnds; ++i) {
    ended[PinEndName(static_cast<PinEnd>(i))] = report.pins_ended[i];
  }
  return {{"running", report.running},
          {"running_max", report.running_max},
          {"waiting", report.waiting},
          {"waiting_requests", report.waiting_requests},
          {"waiting_requests_max", report.waiting_requests_max},
          {"waiting_by_reason", ReasonsJson(report.waiting_by_reason)},
          {"blocks",
           {{"free", report.device.free},
            {"held", report.device.held},
            {"evictable", report.device.evictable},
            {"moving", report.device.moving}}},
          {"pins", report.pins},
          {"pinned_blocks", report.pinned_blocks},
          {"pins_ended", std::move(ended)}};
}

Json ProgramsJson(const QueueReport::Tenant& tenant) {
  Json ttls = Json::object();
  for (size_t i = 0; i < kNumTtlSources; ++i) {
    const TtlCount& count = tenant.ttls[i];
    ttls[TtlSourceName(static_cast<TtlSource>(i))] = {
        {"decided", count.decided},
        {"pinned", count.pinned},
        {"pinned_seconds", absl::ToDoubleSeconds(count.pinned_time)}};
  }
  return {{"known", tenant.programs},
          {"paused", tenant.programs_paused},
          {"memoryfulness", tenant.memoryfulness},
          {"queue_delay_seconds", absl::ToDoubleSeconds(tenant.queue_delay)},
          {"tools", tenant.tools},
          {"tool_durations", tenant.tool_durations},
          {"ttls", std::move(ttls)}};
}

Json QueueTenantJson(const QueueView& view, TenantIndex index) {
  const auto i = static_cast<size_t>(Number(index));
  const QueueReport::Tenant& tenant = view.report.tenants[i];
  Json json = {{"tenant", view.tenants[i]}, {"weight", tenant.weight}};
  if (view.whole) {
    json["served"] = tenant.served;
    json["served_offline"] = tenant.served_offline;
  }
  json["running"] = tenant.running;
  json["running_requests"] = tenant.running_requests;
  json["waiting"] = tenant.waiting;
  json["waiting_requests"] = tenant.waiting_requests;
  json["waiting_by_reason"] = ReasonsJson(tenant.waiting_by_reason);
  json["blocks"] = tenant.blocks;
  json["pins"] = tenant.pins;
  json["pinned_blocks"] = tenant.pinned_blocks;
  json["programs"] = ProgramsJson(tenant);
  return json;
}

Json EntryJson(const QueueView& view, const QueueReport::Entry& entry, const std::string& id) {
  return {{"id", id},
          {"choice", entry.choice},
          {"tenant", view.tenants[static_cast<size_t>(Number(entry.tenant))]},
          {"session", entry.session},
          {"priority", entry.priority},
          {"offline", entry.offline},
          {"prompt_tokens", entry.prompt_tokens},
          {"completion_tokens", entry.completion_tokens},
          {"age_ms", absl::ToInt64Milliseconds(entry.age)},
          {"preempted", entry.num_preempted}};
}

Json QueueJson(const QueueView& view) {
  const QueueReport& report = view.report;
  Json json = Json::object();
  json["object"] = "queue";
  json["policy"] = std::string(Name(report.policy));
  json["order"] = std::string(Name(report.order));
  if (view.whole) json["whole"] = WholeJson(report);
  json["tenants"] = Json::array();
  for (const TenantIndex tenant : view.shown) {
    json["tenants"].push_back(QueueTenantJson(view, tenant));
  }
  json["waiting"] = Json::array();
  for (size_t i = 0; i < report.waiting_entries.size(); ++i) {
    const QueueReport::Entry& entry = report.waiting_entries[i];
    Json one = EntryJson(view, entry, view.waiting_ids[i]);
    one["reason"] = WaitReasonName(entry.reason);
    one["overtaken"] = entry.overtaken;
    json["waiting"].push_back(std::move(one));
  }
  json["waiting_total"] = report.num_listed_waiting;
  json["running"] = Json::array();
  for (size_t i = 0; i < report.running_entries.size(); ++i) {
    const QueueReport::Entry& entry = report.running_entries[i];
    Json one = EntryJson(view, entry, view.running_ids[i]);
    one["computed_tokens"] = entry.computed_tokens;
    one["blocks"] = entry.blocks;
    one["restoring"] = entry.restoring;
    json["running"].push_back(std::move(one));
  }
  json["running_total"] = report.num_listed_running;
  return json;
}

Json ReloadJson(const ReloadView& view) {
  return {{"object", "reload"}, {"applied", view.applied}, {"wait_for_restart", view.waiting}};
}

// The rows are many, and JSON already.
std::string UsageText(const std::optional<std::string>& rows) {
  return absl::StrCat(R"({"object":"list","kept":)", rows ? "true" : "false", R"(,"data":)",
                      rows.value_or("[]"), "}");
}

UsageAsk UsageAskOf(const std::string& query, const std::string& tenant) {
  return {.from = QueryValue(query, "from"),
          .to = QueryValue(query, "to"),
          .by = QueryValue(query, "by"),
          .tenant = tenant};
}

Json DroppedJson(int32_t dropped) {
  Json json = Json::object();
  json["dropped"] = dropped;
  return json;
}

void Ask(const KvAdmin& admin, const HttpRequest& request, std::function<void(Answer)> done) {
  const std::string tenant = QueryValue(request.query, "tenant");
  const Authenticated caller{.tenant = request.tenant, .key = request.key};
  switch (request.route->endpoint) {
    case HttpEndpoint::kAdminDropPin:
      return admin.DropPin(caller, tenant, request.param, [done](absl::Status status) {
        if (!status.ok()) return done(std::move(status));
        done([] { return DumpJson(DroppedJson(1)); });
      });
    case HttpEndpoint::kAdminDropPins:
      return admin.DropPins(caller, tenant, [done](absl::StatusOr<int32_t> dropped) {
        if (!dropped.ok()) return done(dropped.status());
        done([dropped = *dropped] { return DumpJson(DroppedJson(dropped)); });
      });
    case HttpEndpoint::kAdminReload:
      return admin.Reload(caller, [done](absl::StatusOr<ReloadView> view) {
        if (!view.ok()) return done(view.status());
        done([view = *std::move(view)] { return DumpJson(ReloadJson(view)); });
      });
    case HttpEndpoint::kAdminQueue:
      return admin.Queue(request.tenant, tenant, [done](absl::StatusOr<QueueView> view) {
        if (!view.ok()) return done(view.status());
        done([view = *std::move(view)] { return DumpJson(QueueJson(view)); });
      });
    case HttpEndpoint::kAdminUsage:
      return admin.Usage(request.tenant, UsageAskOf(request.query, tenant),
                         [done](absl::StatusOr<std::optional<std::string>> rows) {
                           if (!rows.ok()) return done(rows.status());
                           done([rows = *std::move(rows)] { return UsageText(rows); });
                         });
    default:
      const bool pins = request.route->endpoint == HttpEndpoint::kAdminPins;
      return admin.View(request.tenant, tenant, [done, pins](absl::StatusOr<KvView> view) {
        if (!view.ok()) return done(view.status());
        done([pins, view = *std::move(view)] {
          return DumpJson(pins ? PinsJson(view) : KvJson(view));
        });
      });
  }
}

}  // namespace

asio::awaitable<void> HttpAdmin::Handle(HttpExchange& exchange) {
  if (admin_ == nullptr) {
    co_await exchange.Fail(HttpError(404, "unknown_url", "this server has no /admin"));
    co_return;
  }
  const auto signal = ReadySignal::Make(gate_, co_await asio::this_coro::executor);
  // Shared with the scheduler's thread, whose answer may come when the client has long left; and a
  // std::function is copied, which a notifier cannot be.
  struct Shared {
    std::optional<Answer> answer;
    absl::AnyInvocable<void()> notify;
  };
  const auto shared = std::make_shared<Shared>();
  shared->notify = signal->Notifier();
  Ask(*admin_, exchange.request, [shared](Answer answer) {
    shared->answer = std::move(answer);
    shared->notify();
  });
  exchange.OnGone([signal] { signal->Notify(); });
  const bool in_time =
      co_await signal->Wait(std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout_));
  exchange.StopWatching();
  if (exchange.gone()) co_return;
  if (!in_time) {
    co_await exchange.Fail(
        ToOpenAiError(absl::DeadlineExceededError("there was no answer in time; try again later")));
  } else if (!shared->answer->ok()) {
    co_await exchange.Fail(ToOpenAiError(shared->answer->status()));
  } else {
    co_await exchange.Reply(BodyReply((**shared->answer)()));
  }
}

}  // namespace holdfast
