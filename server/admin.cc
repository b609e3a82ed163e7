#include "server/admin.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "config/base/check.h"
#include "config/base/clock.h"
#include "config/base/status_macros.h"
#include "scheduler/cache_report.h"
#include "scheduler/program_metrics.h"
#include "scheduler/scheduler_loop.h"
#include "server/generation.h"

namespace holdfast {
namespace {

static_assert(kKvTierNames.size() == kNumTiers && kKvPlaceTiers == kNumPlaceTiers);

absl::Status Unavailable() {
  absl::Status status =
      absl::UnavailableError("the scheduler is not there: the model is loading; try again soon");
  status.SetPayload(kRetryAfterUrl, absl::Cord("1"));
  return status;
}

absl::Status Busy(const char* what = "the scheduler is too busy to look; try again later") {
  absl::Status status = absl::ResourceExhaustedError(what);
  status.SetPayload(kRetryAfterUrl, absl::Cord("1"));
  return status;
}

absl::Status Named(absl::Status status, const char* param) {
  status.SetPayload(kErrorParamUrl, absl::Cord(param));
  return status;
}

}  // namespace

KvAdminPort AdminPortTo(SchedulerLoop& loop) {
  return {
      .ask_report =
          [&loop](std::function<void(CacheReport &&)> done, std::optional<TenantIndex> pins_of) {
            return loop.AskReport(std::move(done), pins_of);
          },
      .ask_queue =
          [&loop](std::function<void(QueueReport &&)> done, std::optional<TenantIndex> of) {
            return loop.AskQueue(std::move(done), of);
          },
      .drop_pin =
          [&loop](TenantIndex tenant, std::string session, std::function<void(bool)> done) {
            return loop.DropPin(tenant, std::move(session), std::move(done));
          },
      .drop_pins =
          [&loop](std::optional<TenantIndex> tenant, std::function<void(int32_t)> done) {
            return loop.DropPins(tenant, std::move(done));
          },
      .wire_ids = nullptr,
      .ask_usage = nullptr,
      .reload = nullptr};
}

KvAdmin::KvAdmin(std::vector<TenantConfig> tenants, std::function<void(const AdminAct&)> audit)
    : audit_(std::move(audit)), keyless_(tenants.empty()) {
  SetTenants(TenantsOrDefault(std::move(tenants)));
}

void KvAdmin::SetTenants(const std::vector<TenantConfig>& tenants) {
  for (size_t i = 0; i < tenants.size(); ++i) {
    if (i == tenants_.size()) tenants_.AddNew(std::make_unique<Tenant>(tenants[i].name));
    tenants_[i].admin = tenants[i].admin;
  }
}

const std::string& KvAdmin::NameOf(TenantIndex caller) const {
  static const std::string administrator = "administrator";
  if (caller == kAdministrator) return administrator;
  return tenants_[static_cast<size_t>(Number(caller))].name;
}

void KvAdmin::Connect(KvAdminPort port) {
  absl::MutexLock lock(&mutex_);
  CHECK(!port_.has_value());
  port_ = std::move(port);
}

std::optional<KvAdminPort> KvAdmin::port() const {
  absl::MutexLock lock(&mutex_);
  return port_;
}

bool KvAdmin::SeesAll(TenantIndex caller) const {
  return keyless_ || caller == kAdministrator ||
         tenants_[static_cast<size_t>(Number(caller))].admin.load();
}

absl::StatusOr<std::optional<TenantIndex>> KvAdmin::Resolve(TenantIndex caller,
                                                            const std::string& tenant) const {
  if (tenant.empty()) {
    return SeesAll(caller) ? std::optional<TenantIndex>() : std::optional(caller);
  }
  if (!SeesAll(caller) && tenant != NameOf(caller)) {
    return Named(absl::PermissionDeniedError("only a tenant with `admin: true` may name another"),
                 "tenant");
  }
  for (size_t i = 0; i < tenants_.size(); ++i) {
    if (tenants_[i].name == tenant) return std::optional(TenantIndex{static_cast<int32_t>(i)});
  }
  return Named(absl::NotFoundError(absl::StrCat("there is no tenant `", tenant.substr(0, 64), "`")),
               "tenant");
}

void KvAdmin::View(TenantIndex caller, const std::string& tenant,
                   std::function<void(absl::StatusOr<KvView>)> done) const {
  const absl::StatusOr<std::optional<TenantIndex>> only = Resolve(caller, tenant);
  if (!only.ok()) return done(only.status());
  const std::optional<KvAdminPort> scheduler = port();
  if (!scheduler) return done(Unavailable());
  const bool whole = SeesAll(caller);
  const auto answer = [this, whole, only = *only, done](CacheReport&& report) {
    done(MakeView(std::move(report), whole, only));
  };
  if (!scheduler->ask_report(answer, *only)) done(Busy());
}

KvView KvAdmin::MakeView(CacheReport&& report, bool whole, std::optional<TenantIndex> only) const {
  KvView view{.block_bytes = static_cast<int64_t>(report.block_bytes), .num_pins = report.num_pins};
  if (whole) {
    KvView::Whole& all = view.whole.emplace();
    for (size_t tier = 0; tier < kKvPlaceTiers; ++tier) {
      all.capacity[tier] = {.blocks = report.capacity[tier],
                            .bytes = report.capacity[tier] * view.block_bytes};
    }
    all.free_blocks = report.device.free;
    all.held_blocks = report.device.held;
    all.evictable_blocks = report.device.evictable;
    all.moving_blocks = report.device.moving;
    all.num_moves = report.num_moves;
  }
  for (size_t i = 0; i < report.tenants.size(); ++i) {
    if (only && static_cast<size_t>(Number(*only)) != i) continue;
    const CacheReport::Tenant& from = report.tenants[i];
    KvView::Tenant& to = view.tenants.emplace_back();
    to.name = tenants_[i].name;
    for (size_t tier = 0; tier < kKvTierNames.size(); ++tier) {
      to.tiers[tier].hit_tokens = static_cast<int64_t>(from.hit_tokens[tier]);
      if (tier >= kKvPlaceTiers) continue;
      to.tiers[tier].blocks = from.blocks[tier];
      to.tiers[tier].bytes = from.blocks[tier] * view.block_bytes;
    }
    to.pinned_blocks = from.pinned_blocks;
    to.pinned_bytes = from.pinned_blocks * view.block_bytes;
  }
  const absl::Time now = SteadyNow();
  for (CacheReport::PinEntry& from : report.pins) {
    view.pins.push_back({.tenant = NameOf(from.tenant),
                         .session = std::move(from.session),
                         .state = PinStateName(from.state),
                         .priority = from.priority,
                         .blocks = from.num_blocks,
                         .bytes = from.num_blocks * view.block_bytes,
                         .created = from.created,
                         .expires_in = std::max(from.deadline - now, absl::ZeroDuration())});
  }
  return view;
}

void KvAdmin::Queue(TenantIndex caller, const std::string& tenant,
                    std::function<void(absl::StatusOr<QueueView>)> done) const {
  const absl::StatusOr<std::optional<TenantIndex>> only = Resolve(caller, tenant);
  if (!only.ok()) return done(only.status());
  const std::optional<KvAdminPort> scheduler = port();
  if (!scheduler) return done(Unavailable());
  const bool whole = SeesAll(caller);
  const auto answer = [this, whole, only = *only, port = *scheduler, done](QueueReport&& report) {
    done(MakeQueueView(std::move(report), port, whole, only));
  };
  if (!scheduler->ask_queue(answer, *only)) done(Busy());
}

QueueView KvAdmin::MakeQueueView(QueueReport&& report, const KvAdminPort& port, bool whole,
                                 std::optional<TenantIndex> only) const {
  QueueView view{.report = std::move(report), .whole = whole};
  for (size_t i = 0; i < view.report.tenants.size(); ++i) {
    const TenantIndex tenant{static_cast<int32_t>(i)};
    view.tenants.push_back(tenants_[i].name);
    if (!only || *only == tenant) view.shown.push_back(tenant);
  }
  const auto ids_of = [&port](const std::vector<QueueReport::Entry>& entries) {
    std::vector<RequestId> requests;
    for (const QueueReport::Entry& entry : entries) requests.push_back(entry.request);
    return port.wire_ids ? port.wire_ids(requests) : std::vector<std::string>(requests.size());
  };
  view.waiting_ids = ids_of(view.report.waiting_entries);
  view.running_ids = ids_of(view.report.running_entries);
  return view;
}

void KvAdmin::Usage(TenantIndex caller, UsageAsk ask,
                    std::function<void(absl::StatusOr<std::optional<std::string>>)> done) const {
  const absl::StatusOr<std::optional<TenantIndex>> only = Resolve(caller, ask.tenant);
  if (!only.ok()) return done(only.status());
  const std::optional<KvAdminPort> daemon = port();
  if (!daemon) return done(Unavailable());
  if (!daemon->ask_usage) return done(std::nullopt);
  if (*only) ask.tenant = tenants_[static_cast<size_t>(Number(**only))].name;
  if (!daemon->ask_usage(std::move(ask), done)) {
    done(Busy("too many questions about usage wait for an answer; try again later"));
  }
}

AdminAct KvAdmin::ActOf(const Authenticated& caller, const char* act, std::string on) const {
  return {.who = NameOf(caller.tenant),
          .key = caller.key,
          .act = act,
          .on = std::move(on),
          .result = absl::OkStatus()};
}

template <typename Result>
std::function<void(Result)> KvAdmin::Audited(AdminAct act, std::function<void(Result)> done) const {
  return [this, act = std::move(act), done = std::move(done)](Result result) {
    AdminAct ended = act;
    if constexpr (std::is_same_v<Result, absl::Status>) {
      ended.result = result;
    } else {
      ended.result = result.status();
    }
    audit_(ended);
    done(std::move(result));
  };
}

void KvAdmin::DropPin(const Authenticated& caller, const std::string& tenant,
                      const std::string& session, std::function<void(absl::Status)> done) const {
  const std::function<void(absl::Status)> end =
      Audited(ActOf(caller, "drop_pin", session), std::move(done));
  const absl::StatusOr<std::optional<TenantIndex>> only = Resolve(caller.tenant, tenant);
  if (!only.ok()) return end(only.status());
  if (tenant.empty() && caller.tenant == kAdministrator) {
    return end(
        Named(absl::InvalidArgumentError("say whose session it is: ?tenant=NAME"), "tenant"));
  }
  const std::optional<KvAdminPort> scheduler = port();
  if (!scheduler) return end(Unavailable());
  const TenantIndex owner = tenant.empty() ? caller.tenant : **only;
  const auto answer = [end](bool had_pin) {
    end(had_pin ? absl::OkStatus()
                : Named(absl::NotFoundError("the session has no pin here"), "session"));
  };
  if (!scheduler->drop_pin(owner, session, answer)) end(Busy());
}

void KvAdmin::DropPins(const Authenticated& caller, const std::string& tenant,
                       std::function<void(absl::StatusOr<int32_t>)> done) const {
  const std::function<void(absl::StatusOr<int32_t>)> end =
      Audited(ActOf(caller, "drop_pins", tenant), std::move(done));
  const absl::StatusOr<std::optional<TenantIndex>> only = Resolve(caller.tenant, tenant);
  if (!only.ok()) return end(only.status());
  const std::optional<KvAdminPort> scheduler = port();
  if (!scheduler) return end(Unavailable());
  if (!scheduler->drop_pins(*only, end)) end(Busy());
}

void KvAdmin::Reload(const Authenticated& caller,
                     std::function<void(absl::StatusOr<ReloadView>)> done) const {
  const std::function<void(absl::StatusOr<ReloadView>)> end =
      Audited(ActOf(caller, "reload", ""), std::move(done));
  if (caller.tenant != kAdministrator) {
    return end(absl::PermissionDeniedError("only an administrator's key may reload"));
  }
  const std::optional<KvAdminPort> daemon = port();
  if (!daemon || !daemon->reload || !daemon->reload(end)) end(Unavailable());
}

}  // namespace holdfast
