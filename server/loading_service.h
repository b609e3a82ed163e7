// Stands in for the generation service while the model is loading, so that the ports answer
// (/health/live, /health/ready, /metrics) from the first moment: every call is refused with
// kUnavailable until SwitchTo, and from then on handed through.
//
// Thread: SwitchTo once, by any; the rest any.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "config/ids.h"
#include "server/generation.h"

namespace holdfast {

class LoadingService final : public GenerationService {
 public:
  // `model`: what is known before the weights are in; constant, also after the switch.
  explicit LoadingService(ModelInfo model) : model_(std::move(model)) {}

  // `service` must outlive every call of this.
  void SwitchTo(GenerationService& service) { service_.store(&service, std::memory_order_release); }

  std::shared_ptr<GenerationStream> Start(GenerationRequest request) override;
  std::vector<std::shared_ptr<GenerationStream>> StartAll(
      std::vector<GenerationRequest> requests) override;
  bool CancelByWireId(TenantIndex tenant, const std::string& wire_id) override;
  void Tokenize(TextCaller caller, std::variant<ChatInput, std::string> text,
                bool add_special_tokens,
                absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)> done) override;
  void Detokenize(TextCaller caller, std::vector<TokenId> tokens,
                  absl::AnyInvocable<void(absl::StatusOr<std::string>)> done) override;
  std::string TokenText(TokenId token) const override;
  const ModelInfo& model_info() const override { return model_; }

 private:
  GenerationService* service() const { return service_.load(std::memory_order_acquire); }

  const ModelInfo model_;
  std::atomic<GenerationService*> service_{nullptr};
};

}  // namespace holdfast
