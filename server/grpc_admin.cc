#include "server/grpc_admin.h"

#include <string>
#include <utility>

#include "config/limits.h"
#include "scheduler/kv_metrics.h"
#include "server/grpc_ended_call.h"
#include "server/grpc_service.h"

namespace holdfast {
namespace {

v1::KvTier TierOf(size_t index) { return static_cast<v1::KvTier>(index + v1::KV_TIER_DEVICE); }

void SetTenant(const KvView::Tenant& from, v1::KvTenant& to) {
  to.set_tenant(from.name);
  for (size_t i = 0; i < from.tiers.size(); ++i) {
    v1::KvTierUse& tier = *to.add_tiers();
    tier.set_tier(TierOf(i));
    tier.set_blocks(from.tiers[i].blocks);
    tier.set_bytes(from.tiers[i].bytes);
    tier.set_hit_tokens(from.tiers[i].hit_tokens);
  }
  to.set_pinned_blocks(from.pinned_blocks);
  to.set_pinned_bytes(from.pinned_bytes);
}

void SetWhole(const KvView::Whole& from, v1::KvWhole& to) {
  for (size_t i = 0; i < from.capacity.size(); ++i) {
    v1::KvTierCapacity& tier = *to.add_capacity();
    tier.set_tier(TierOf(i));
    tier.set_blocks(from.capacity[i].blocks);
    tier.set_bytes(from.capacity[i].bytes);
  }
  to.set_free_blocks(from.free_blocks);
  to.set_held_blocks(from.held_blocks);
  to.set_evictable_blocks(from.evictable_blocks);
  to.set_moving_blocks(from.moving_blocks);
  to.set_moves(from.num_moves);
}

void SetCache(const KvView& view, v1::KvCache& cache) {
  cache.set_block_tokens(kBlockTokens);
  cache.set_block_bytes(view.block_bytes);
  for (const KvView::Tenant& tenant : view.tenants) SetTenant(tenant, *cache.add_tenants());
  cache.set_pins(view.num_pins);
  if (view.whole) SetWhole(*view.whole, *cache.mutable_whole());
}

void SetPin(const KvView::Pin& from, v1::KvPin& to) {
  to.set_tenant(from.tenant);
  to.set_session(from.session);
  to.set_state(from.state);
  to.set_priority(from.priority);
  to.set_blocks(from.blocks);
  to.set_bytes(from.bytes);
  to.set_created_unix(absl::ToUnixSeconds(from.created));
  to.set_expires_in_ms(absl::ToInt64Milliseconds(from.expires_in));
}

static_assert(v1::WaitReason_MAX == static_cast<int>(kNumWaitReasons));

v1::WaitReason ReasonOf(WaitReason reason) {
  return static_cast<v1::WaitReason>(static_cast<int>(reason) + v1::WAIT_REASON_TURN);
}

template <typename Message>
void SetReasons(const QueueReport::Reasons& reasons, Message& to) {
  for (size_t i = 0; i < kNumWaitReasons; ++i) {
    v1::WaitReasonCount& count = *to.add_waiting_by_reason();
    count.set_reason(ReasonOf(static_cast<WaitReason>(i)));
    count.set_sequences(reasons[i]);
  }
}

void SetQueueWhole(const QueueReport& report, v1::QueueWhole& to) {
  to.set_running(report.running);
  to.set_running_max(report.running_max);
  to.set_waiting(report.waiting);
  to.set_waiting_requests(report.waiting_requests);
  to.set_waiting_requests_max(report.waiting_requests_max);
  SetReasons(report.waiting_by_reason, to);
  to.set_free_blocks(report.device.free);
  to.set_held_blocks(report.device.held);
  to.set_evictable_blocks(report.device.evictable);
  to.set_moving_blocks(report.device.moving);
  to.set_pins(report.pins);
  to.set_pinned_blocks(report.pinned_blocks);
  for (size_t i = 0; i < kNumPinEnds; ++i) {
    v1::PinsEnded& ended = *to.add_pins_ended();
    ended.set_end(PinEndName(static_cast<PinEnd>(i)));
    ended.set_pins(report.pins_ended[i]);
  }
}

void SetQueueTenant(const QueueView& view, TenantIndex index, v1::QueueTenant& to) {
  const auto i = static_cast<size_t>(Number(index));
  const QueueReport::Tenant& from = view.report.tenants[i];
  to.set_tenant(view.tenants[i]);
  to.set_weight(from.weight);
  if (view.whole) {
    to.set_served(from.served);
    to.set_served_offline(from.served_offline);
  }
  to.set_running(from.running);
  to.set_running_requests(from.running_requests);
  to.set_waiting(from.waiting);
  to.set_waiting_requests(from.waiting_requests);
  SetReasons(from.waiting_by_reason, to);
  to.set_blocks(from.blocks);
  to.set_pins(from.pins);
  to.set_pinned_blocks(from.pinned_blocks);
  to.set_programs(from.programs);
  to.set_programs_paused(from.programs_paused);
  to.set_memoryfulness(from.memoryfulness);
  to.set_queue_delay_seconds(absl::ToDoubleSeconds(from.queue_delay));
  to.set_tools(from.tools);
  to.set_tool_durations(from.tool_durations);
  for (size_t source = 0; source < kNumTtlSources; ++source) {
    v1::TtlCount& count = *to.add_ttls();
    count.set_source(TtlSourceName(static_cast<TtlSource>(source)));
    count.set_decided(from.ttls[source].decided);
    count.set_pinned(from.ttls[source].pinned);
    count.set_pinned_seconds(absl::ToDoubleSeconds(from.ttls[source].pinned_time));
  }
}

// What entries of both kinds have.
void SetEntry(const QueueView& view, const QueueReport::Entry& from, const std::string& id,
              v1::QueueEntry& to) {
  to.set_id(id);
  to.set_choice(from.choice);
  to.set_tenant(view.tenants[static_cast<size_t>(Number(from.tenant))]);
  to.set_session(from.session);
  to.set_priority(from.priority);
  to.set_offline(from.offline);
  to.set_prompt_tokens(from.prompt_tokens);
  to.set_completion_tokens(from.completion_tokens);
  to.set_age_ms(absl::ToInt64Milliseconds(from.age));
  to.set_preempted(from.num_preempted);
}

void SetQueue(const QueueView& view, v1::Queue& queue) {
  const QueueReport& report = view.report;
  queue.set_policy(std::string(Name(report.policy)));
  queue.set_order(std::string(Name(report.order)));
  if (view.whole) SetQueueWhole(report, *queue.mutable_whole());
  for (const TenantIndex tenant : view.shown) SetQueueTenant(view, tenant, *queue.add_tenants());
  for (size_t i = 0; i < report.waiting_entries.size(); ++i) {
    const QueueReport::Entry& from = report.waiting_entries[i];
    v1::QueueEntry& to = *queue.add_waiting();
    SetEntry(view, from, view.waiting_ids[i], to);
    to.set_reason(ReasonOf(from.reason));
    to.set_overtaken(from.overtaken);
  }
  queue.set_waiting_total(report.num_listed_waiting);
  for (size_t i = 0; i < report.running_entries.size(); ++i) {
    const QueueReport::Entry& from = report.running_entries[i];
    v1::QueueEntry& to = *queue.add_running();
    SetEntry(view, from, view.running_ids[i], to);
    to.set_computed_tokens(from.computed_tokens);
    to.set_blocks(from.blocks);
    to.set_restoring(from.restoring);
  }
  queue.set_running_total(report.num_listed_running);
}

}  // namespace

grpc::ServerUnaryReactor* GrpcAdmin::GetKv(grpc::CallbackServerContext* context,
                                           const v1::GetKvRequest* request, v1::KvCache* response) {
  auto* call = new EndedCall<grpc::ServerUnaryReactor>(*context, write_timeout_);
  const absl::StatusOr<Authenticated> caller = AuthenticateCall(*context, authenticator_);
  if (!caller.ok()) {
    call->End(caller.status());
    return call;
  }
  admin_.View(caller->tenant, request->tenant(), [=](const absl::StatusOr<KvView>& view) {
    if (view.ok()) SetCache(*view, *response);
    call->End(view.status());
  });
  return call;
}

grpc::ServerUnaryReactor* GrpcAdmin::ListPins(grpc::CallbackServerContext* context,
                                              const v1::ListPinsRequest* request,
                                              v1::ListPinsResponse* response) {
  auto* call = new EndedCall<grpc::ServerUnaryReactor>(*context, write_timeout_);
  const absl::StatusOr<Authenticated> caller = AuthenticateCall(*context, authenticator_);
  if (!caller.ok()) {
    call->End(caller.status());
    return call;
  }
  admin_.View(caller->tenant, request->tenant(), [=](const absl::StatusOr<KvView>& view) {
    if (view.ok()) {
      for (const KvView::Pin& pin : view->pins) SetPin(pin, *response->add_pins());
      response->set_total(view->num_pins);
    }
    call->End(view.status());
  });
  return call;
}

grpc::ServerUnaryReactor* GrpcAdmin::DropPin(grpc::CallbackServerContext* context,
                                             const v1::DropPinRequest* request,
                                             v1::DropPinResponse*) {
  auto* call = new EndedCall<grpc::ServerUnaryReactor>(*context, write_timeout_);
  const absl::StatusOr<Authenticated> caller = AuthenticateCall(*context, authenticator_);
  if (!caller.ok()) {
    call->End(caller.status());
    return call;
  }
  admin_.DropPin(*caller, request->tenant(), request->session(),
                 [=](const absl::Status& status) { call->End(status); });
  return call;
}

grpc::ServerUnaryReactor* GrpcAdmin::DropPins(grpc::CallbackServerContext* context,
                                              const v1::DropPinsRequest* request,
                                              v1::DropPinsResponse* response) {
  auto* call = new EndedCall<grpc::ServerUnaryReactor>(*context, write_timeout_);
  const absl::StatusOr<Authenticated> caller = AuthenticateCall(*context, authenticator_);
  if (!caller.ok()) {
    call->End(caller.status());
    return call;
  }
  admin_.DropPins(*caller, request->tenant(), [=](const absl::StatusOr<int32_t>& dropped) {
    if (dropped.ok()) response->set_dropped(*dropped);
    call->End(dropped.status());
  });
  return call;
}

grpc::ServerUnaryReactor* GrpcAdmin::GetQueue(grpc::CallbackServerContext* context,
                                              const v1::GetQueueRequest* request,
                                              v1::Queue* response) {
  auto* call = new EndedCall<grpc::ServerUnaryReactor>(*context, write_timeout_);
  const absl::StatusOr<Authenticated> caller = AuthenticateCall(*context, authenticator_);
  if (!caller.ok()) {
    call->End(caller.status());
    return call;
  }
  admin_.Queue(caller->tenant, request->tenant(), [=](const absl::StatusOr<QueueView>& view) {
    if (view.ok()) SetQueue(*view, *response);
    call->End(view.status());
  });
  return call;
}

}  // namespace holdfast
