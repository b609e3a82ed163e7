#include "server/grpc_admin.h"

#include <utility>

#include "config/limits.h"
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
  to.set_priority(from.priority);
  to.set_blocks(from.blocks);
  to.set_bytes(from.bytes);
  to.set_created_unix(absl::ToUnixSeconds(from.created));
  to.set_expires_in_ms(absl::ToInt64Milliseconds(from.expires_in));
}

}  // namespace

grpc::ServerUnaryReactor* GrpcAdmin::GetKv(grpc::CallbackServerContext* context,
                                           const v1::GetKvRequest* request, v1::KvCache* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<TenantIndex> caller = AuthenticateCall(*context, authenticator_);
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(*context, caller.status()));
    return reactor;
  }
  admin_.View(*caller, request->tenant(), [=](const absl::StatusOr<KvView>& view) {
    if (view.ok()) SetCache(*view, *response);
    reactor->Finish(ToGrpcStatus(*context, view.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* GrpcAdmin::ListPins(grpc::CallbackServerContext* context,
                                              const v1::ListPinsRequest* request,
                                              v1::ListPinsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<TenantIndex> caller = AuthenticateCall(*context, authenticator_);
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(*context, caller.status()));
    return reactor;
  }
  admin_.View(*caller, request->tenant(), [=](const absl::StatusOr<KvView>& view) {
    if (view.ok()) {
      for (const KvView::Pin& pin : view->pins) SetPin(pin, *response->add_pins());
      response->set_total(view->num_pins);
    }
    reactor->Finish(ToGrpcStatus(*context, view.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* GrpcAdmin::DropPin(grpc::CallbackServerContext* context,
                                             const v1::DropPinRequest* request,
                                             v1::DropPinResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<TenantIndex> caller = AuthenticateCall(*context, authenticator_);
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(*context, caller.status()));
    return reactor;
  }
  admin_.DropPin(*caller, request->tenant(), request->session(), [=](const absl::Status& status) {
    reactor->Finish(ToGrpcStatus(*context, status));
  });
  return reactor;
}

grpc::ServerUnaryReactor* GrpcAdmin::DropPins(grpc::CallbackServerContext* context,
                                              const v1::DropPinsRequest* request,
                                              v1::DropPinsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<TenantIndex> caller = AuthenticateCall(*context, authenticator_);
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(*context, caller.status()));
    return reactor;
  }
  admin_.DropPins(*caller, request->tenant(), [=](const absl::StatusOr<int32_t>& dropped) {
    if (dropped.ok()) response->set_dropped(*dropped);
    reactor->Finish(ToGrpcStatus(*context, dropped.status()));
  });
  return reactor;
}

}  // namespace holdfast
