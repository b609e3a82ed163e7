#include "server/loading_service.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "server/generation.h"

namespace holdfast {
namespace {

class EmptyStream final : public GenerationStream {
 public:
  std::optional<GenerationEvent> TryNext() override { return std::nullopt; }
  void NotifyReady(absl::AnyInvocable<void()>) override {}
  void Cancel() override {}
};

// Answers every call in a way that shows who answered.
class FakeService final : public GenerationService {
 public:
  std::shared_ptr<GenerationStream> Start(GenerationRequest) override {
    ++starts;
    return std::make_shared<EmptyStream>();
  }
  bool CancelByWireId(TenantIndex, const std::string&) override { return true; }
  void Tokenize(TextCaller, std::variant<ChatInput, std::string>, bool,
                absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)> done) override {
    done(std::vector<TokenId>{7});
  }
  void Detokenize(TextCaller, std::vector<TokenId>,
                  absl::AnyInvocable<void(absl::StatusOr<std::string>)> done) override {
    done(std::string("text"));
  }
  std::string TokenText(TokenId) const override { return "token"; }
  const ModelInfo& model_info() const override { return info; }

  int starts = 0;
  ModelInfo info;
};

TEST(LoadingServiceTest, BeforeTheModelIsInEveryCallIsRefusedAtOnce) {
  LoadingService service({.name = "m", .context_tokens = 9});
  EXPECT_EQ(service.model_info().name, "m");
  const auto stream = service.Start({});
  bool ready = false;
  stream->NotifyReady([&] { ready = true; });
  EXPECT_TRUE(ready);
  const auto event = stream->TryNext();
  ASSERT_TRUE(event.has_value());
  const auto& done = std::get<GenerationDone>(*event);
  EXPECT_EQ(done.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(done.status.GetPayload(kRetryAfterUrl).has_value());
  EXPECT_FALSE(stream->TryNext().has_value());

  EXPECT_FALSE(service.CancelByWireId(TenantIndex{0}, "x"));
  absl::Status tokens, text;
  service.Tokenize({}, std::string("a"), true,
                   [&](const auto& answer) { tokens = answer.status(); });
  service.Detokenize({}, {1}, [&](const auto& answer) { text = answer.status(); });
  EXPECT_EQ(tokens.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(text.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(service.TokenText(1), "");
}

TEST(LoadingServiceTest, AfterTheSwitchCallsGoThrough) {
  FakeService real;
  LoadingService service({.name = "m"});
  service.SwitchTo(real);
  EXPECT_FALSE(service.Start({})->TryNext().has_value());
  EXPECT_EQ(real.starts, 1);
  EXPECT_TRUE(service.CancelByWireId(TenantIndex{0}, "x"));
  std::vector<TokenId> tokens;
  std::string text;
  service.Tokenize({}, std::string("a"), true, [&](auto answer) { tokens = *std::move(answer); });
  service.Detokenize({}, {1}, [&](auto answer) { text = *std::move(answer); });
  EXPECT_EQ(tokens, std::vector<TokenId>{7});
  EXPECT_EQ(text, "text");
  EXPECT_EQ(service.TokenText(1), "token");
  EXPECT_EQ(service.model_info().name, "m");
}

}  // namespace
}  // namespace holdfast
