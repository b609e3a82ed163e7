#include "server/loading_service.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "config/ids.h"
#include "server/generation.h"

namespace holdfast {
namespace {

absl::Status Loading() {
  absl::Status status = absl::UnavailableError("the model is still loading; try again soon");
  status.SetPayload(kRetryAfterUrl, absl::Cord("1"));
  return status;
}

// A stream that holds nothing but its end.
class RefusedStream final : public GenerationStream {
 public:
  std::optional<GenerationEvent> TryNext() override {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(taken_, true)) return std::nullopt;
    return GenerationDone{.status = Loading()};
  }
  void NotifyReady(absl::AnyInvocable<void()> ready) override { ready(); }
  void Cancel() override {}

 private:
  absl::Mutex mutex_;
  bool taken_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

std::shared_ptr<GenerationStream> LoadingService::Start(GenerationRequest request) {
  if (GenerationService* ready = service()) return ready->Start(std::move(request));
  return std::make_shared<RefusedStream>();
}

std::vector<std::shared_ptr<GenerationStream>> LoadingService::StartAll(
    std::vector<GenerationRequest> requests) {
  if (GenerationService* ready = service()) return ready->StartAll(std::move(requests));
  return GenerationService::StartAll(std::move(requests));
}

bool LoadingService::CancelByWireId(TenantIndex tenant, const std::string& wire_id) {
  GenerationService* ready = service();
  return ready != nullptr && ready->CancelByWireId(tenant, wire_id);
}

void LoadingService::Tokenize(TextCaller caller, std::variant<ChatInput, std::string> text,
                              bool add_special_tokens,
                              absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)> done) {
  if (GenerationService* ready = service()) {
    ready->Tokenize(std::move(caller), std::move(text), add_special_tokens, std::move(done));
  } else {
    done(Loading());
  }
}

void LoadingService::Detokenize(TextCaller caller, std::vector<TokenId> tokens,
                                absl::AnyInvocable<void(absl::StatusOr<std::string>)> done) {
  if (GenerationService* ready = service()) {
    ready->Detokenize(std::move(caller), std::move(tokens), std::move(done));
  } else {
    done(Loading());
  }
}

std::string LoadingService::TokenText(TokenId token) const {
  const GenerationService* ready = service();
  return ready != nullptr ? ready->TokenText(token) : std::string();
}

}  // namespace holdfast
