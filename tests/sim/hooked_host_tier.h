// A host tier that lets a test hold up, watch or spoil what it gives back layer by layer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "kvstore/host_tier.h"

namespace holdfast {

class HookedHostTier final : public Tier {
 public:
  // `before_layer` is called on the mover's thread before each FetchLayer, with the tier itself.
  using Hook =
      std::function<void(HostTier& host, std::span<TierTransfer> transfers, int32_t layer)>;

  HookedHostTier(std::unique_ptr<HostTier> host, Hook before_layer)
      : host_(std::move(host)), before_layer_(std::move(before_layer)) {}

  TierKind kind() const override { return host_->kind(); }
  int32_t capacity() const override { return host_->capacity(); }
  std::optional<TierSlot> TryReserve() override { return host_->TryReserve(); }
  void Drop(TierSlot slot) override { host_->Drop(slot); }
  int32_t num_free() const override { return host_->num_free(); }
  void Put(std::span<TierTransfer> transfers) override { host_->Put(transfers); }
  void Fetch(std::span<TierTransfer> transfers) override { host_->Fetch(transfers); }
  int32_t num_layers() const override { return host_->num_layers(); }
  void FetchLayer(std::span<TierTransfer> transfers, int32_t layer) override {
    before_layer_(*host_, transfers, layer);
    host_->FetchLayer(transfers, layer);
  }

 private:
  const std::unique_ptr<HostTier> host_;
  const Hook before_layer_;
};

}  // namespace holdfast
