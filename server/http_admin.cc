#include "server/http_admin.h"

#include <boost/asio/this_coro.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "config/limits.h"
#include "server/http_router.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

using Answer = absl::StatusOr<Json>;

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
                            {"priority", pin.priority},
                            {"blocks", pin.blocks},
                            {"bytes", pin.bytes},
                            {"created", absl::ToUnixSeconds(pin.created)},
                            {"expires_in_ms", absl::ToInt64Milliseconds(pin.expires_in)}});
  }
  json["total"] = view.num_pins;
  return json;
}

Json DroppedJson(int32_t dropped) {
  Json json = Json::object();
  json["dropped"] = dropped;
  return json;
}

HttpReply JsonReply(const Json& json) { return HttpReply{.body = DumpJson(json)}; }

void Ask(const KvAdmin& admin, const HttpRequest& request, std::function<void(Answer)> done) {
  const std::string tenant = QueryValue(request.query, "tenant");
  switch (request.route->endpoint) {
    case HttpEndpoint::kAdminDropPin:
      return admin.DropPin(request.tenant, tenant, request.param, [done](absl::Status status) {
        done(status.ok() ? Answer(DroppedJson(1)) : Answer(std::move(status)));
      });
    case HttpEndpoint::kAdminDropPins:
      return admin.DropPins(request.tenant, tenant, [done](absl::StatusOr<int32_t> dropped) {
        done(dropped.ok() ? Answer(DroppedJson(*dropped)) : Answer(dropped.status()));
      });
    default:
      const bool pins = request.route->endpoint == HttpEndpoint::kAdminPins;
      return admin.View(request.tenant, tenant, [done, pins](absl::StatusOr<KvView> view) {
        if (!view.ok()) return done(view.status());
        done(pins ? PinsJson(*view) : KvJson(*view));
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
        ToOpenAiError(absl::DeadlineExceededError("the scheduler did not answer in time")));
  } else if (!shared->answer->ok()) {
    co_await exchange.Fail(ToOpenAiError(shared->answer->status()));
  } else {
    co_await exchange.Reply(JsonReply(**shared->answer));
  }
}

}  // namespace holdfast
