// What the KV cache holds and for whom, the pins that may be dropped, and who waits for what, for
// people rather than for models. Both wires show it: GET /admin/v1/kv ..., holdfast.v1.Admin.
//
//   HTTP, gRPC ──► KvAdmin ──(message)──► scheduler thread ──done──► answer
//
// Who sees what: a tenant its own part and nothing that others make; a tenant with `admin: true`,
// an administrator, and everyone where there are no keys, all of it. A name that the caller may not
// see is refused whether or not there is such a tenant.
//
// Thread: any; `done` is called once, on the scheduler's thread or the caller's own, and must not
// block. Bound: kPinsReportedMax pins, kQueueEntriesMax sequences twice an answer; the scheduler's
// mailbox.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "config/base/growing_table.h"
#include "config/ids.h"
#include "config/tenant_config.h"
#include "scheduler/queue_report.h"
#include "server/admin_act.h"
#include "server/authenticator.h"
#include "server/usage_ask.h"

namespace holdfast {

struct CacheReport;  // scheduler/cache_report.h
class SchedulerLoop;

inline constexpr std::array<const char*, 4> kKvTierNames = {"device", "host", "disk", "remote"};
// The first of them have room of ours; of what lies on the remote tier only hits are known.
inline constexpr size_t kKvPlaceTiers = 3;

struct KvTierUse {
  int64_t blocks = 0, bytes = 0;
  int64_t hit_tokens = 0;  // of a tenant: found there since start
};

// Of all tenants together.
struct KvWhole {
  std::array<KvTierUse, kKvPlaceTiers> capacity;
  int32_t free_blocks = 0, held_blocks = 0, evictable_blocks = 0, moving_blocks = 0;  // device
  int32_t num_moves = 0;
};

struct KvView {
  using Tier = KvTierUse;
  using Whole = KvWhole;
  struct Tenant {
    std::string name;
    std::array<Tier, kKvTierNames.size()> tiers;  // as kKvTierNames
    int64_t pinned_blocks = 0, pinned_bytes = 0;
  };
  struct Pin {
    std::string tenant, session;
    const char* state = "";  // what it waits for: PinStateName
    int32_t priority = 0;
    int64_t blocks = 0, bytes = 0;
    absl::Time created;
    absl::Duration expires_in;
  };
  int64_t block_bytes = 0;
  std::optional<Whole> whole;  // absent for a caller who may not see it
  std::vector<Tenant> tenants;
  std::vector<Pin> pins;  // the next to expire first
  int32_t num_pins = 0;   // with those that are not listed
};

// The scheduler's queue. Of a caller who sees only its own part: its own sequences, and of the
// whole and its counter nothing, from which others' service could be told.
struct QueueView {
  QueueReport report;
  bool whole = false;                                 // the caller may see the report's sums
  std::vector<TenantIndex> shown;                     // of report.tenants
  std::vector<std::string> tenants;                   // names, by TenantIndex
  std::vector<std::string> waiting_ids, running_ids;  // as clients know the entries' requests
};

// What of a configuration that was read again has taken effect, and what waits for the next start.
struct ReloadView {
  std::vector<std::string> applied, waiting;  // settings' names
};

// How KvAdmin reaches the scheduler: what SchedulerLoop's members of these names promise.
struct KvAdminPort {
  std::function<bool(std::function<void(CacheReport&&)>, std::optional<TenantIndex>)> ask_report;
  std::function<bool(std::function<void(QueueReport&&)>, std::optional<TenantIndex>)> ask_queue;
  std::function<bool(TenantIndex, std::string, std::function<void(bool)>)> drop_pin;
  std::function<bool(std::optional<TenantIndex>, std::function<void(int32_t)>)> drop_pins;
  // Of requests, as their clients know them; empty: over meanwhile. nullptr: none are known.
  std::function<std::vector<std::string>(const std::vector<RequestId>&)> wire_ids;
  // Rows of the usage ledger as JSON, on its thread; nullptr: none is kept. False: too much waits.
  std::function<bool(UsageAsk, std::function<void(absl::StatusOr<std::string>)>)> ask_usage;
  // Has the daemon read its file again; `done` by whatever thread. False: it is stopping.
  std::function<bool(std::function<void(absl::StatusOr<ReloadView>)>)> reload;
};
// The loop must outlive the port, which has the scheduler's part.
KvAdminPort AdminPortTo(SchedulerLoop& loop);

class KvAdmin final {
 public:
  // `tenants`: by TenantIndex; empty: the one tenant `default`, who sees all. `audit` is told of
  // each act, on the thread that ends it, and must not block.
  explicit KvAdmin(
      std::vector<TenantConfig> tenants,
      std::function<void(const AdminAct&)> audit = [](const AdminAct&) {});

  // Who is an administrator from now on, by TenantIndex, of the tenants that there are, and new
  // ones behind them. By one thread at a time, before the scheduler is told of new ones.
  void SetTenants(const std::vector<TenantConfig>& tenants);
  // Also of kAdministrator.
  const std::string& NameOf(TenantIndex caller) const;

  // Once; until then all is kUnavailable.
  void Connect(KvAdminPort port) ABSL_LOCKS_EXCLUDED(mutex_);

  // `tenant`: a name, to speak of that tenant alone; empty: of all that the caller sees.
  // kPermissionDenied: another's name, of a caller who sees only its own part. kNotFound: no such
  // tenant. kUnavailable: loading or stopping. kResourceExhausted: too much waits.
  void View(TenantIndex caller, const std::string& tenant,
            std::function<void(absl::StatusOr<KvView>)> done) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Likewise.
  void Queue(TenantIndex caller, const std::string& tenant,
             std::function<void(absl::StatusOr<QueueView>)> done) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Likewise, of `ask.tenant`; nullopt: no usage is kept. kInvalidArgument: not such a query, or
  // more rows than kUsageRowsMax.
  void Usage(TenantIndex caller, UsageAsk ask,
             std::function<void(absl::StatusOr<std::optional<std::string>>)> done) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // `tenant` empty: the caller's own session of that name. kNotFound: it has no pin.
  // kInvalidArgument: an administrator, who has none, names no tenant.
  void DropPin(const Authenticated& caller, const std::string& tenant, const std::string& session,
               std::function<void(absl::Status)> done) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Tells how many there were.
  void DropPins(const Authenticated& caller, const std::string& tenant,
                std::function<void(absl::StatusOr<int32_t>)> done) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // For an administrator alone. kInvalidArgument: the file has faults, one a line; all is as it
  // was.
  void Reload(const Authenticated& caller,
              std::function<void(absl::StatusOr<ReloadView>)> done) const
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Tenant {
    explicit Tenant(std::string its_name) : name(std::move(its_name)) {}
    const std::string name;
    std::atomic<bool> admin{false};
  };
  bool SeesAll(TenantIndex caller) const;
  AdminAct ActOf(const Authenticated& caller, const char* act, std::string on) const;
  // `done`, after the audit.
  template <typename Result>
  std::function<void(Result)> Audited(AdminAct act, std::function<void(Result)> done) const;
  // Whom a caller who says `tenant` speaks of; nullopt: all.
  absl::StatusOr<std::optional<TenantIndex>> Resolve(TenantIndex caller,
                                                     const std::string& tenant) const;
  KvView MakeView(CacheReport&& report, bool whole, std::optional<TenantIndex> only) const;
  QueueView MakeQueueView(QueueReport&& report, const KvAdminPort& port, bool whole,
                          std::optional<TenantIndex> only) const;
  std::optional<KvAdminPort> port() const ABSL_LOCKS_EXCLUDED(mutex_);

  const std::function<void(const AdminAct&)> audit_;
  const bool keyless_;
  GrowingTable<Tenant> tenants_{kTenantsMax};  // by TenantIndex
  mutable absl::Mutex mutex_;
  std::optional<KvAdminPort> port_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace holdfast
