#include "server/request_validator.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "server/http_status.h"

namespace holdfast {
namespace {

constexpr int64_t kContext = 100;

GenerationRequest Asking(std::optional<int32_t> max_tokens, int32_t min_tokens = 0) {
  GenerationRequest request;
  request.max_tokens = max_tokens;
  request.sampling.min_tokens = min_tokens;
  return request;
}

// "param: code" of the refusal, or "max_tokens N" that was settled.
std::string Fit(GenerationRequest request, int64_t prompt_tokens) {
  const absl::Status status = FitToContext(request, prompt_tokens, kContext);
  if (status.ok()) return "max_tokens " + std::to_string(request.max_tokens.value_or(-1));
  const OpenAiError error = ToOpenAiError(status);
  EXPECT_EQ(error.http_status, 400);
  return error.param + ": " + error.code;
}

TEST(FitToContextTest, WithoutALengthTheCompletionMayFillTheContext) {
  EXPECT_EQ(Fit(Asking({}), 1), "max_tokens 99");
  EXPECT_EQ(Fit(Asking({}), 99), "max_tokens 1");
  EXPECT_EQ(Fit(Asking({}), 100), "prompt: context_length_exceeded");
  EXPECT_EQ(Fit(Asking({}), 0), "prompt: invalid_value");
}

TEST(FitToContextTest, ALengthThatWasGivenIsAtFaultWhenItDoesNotFit) {
  EXPECT_EQ(Fit(Asking(16), 84), "max_tokens 16");
  EXPECT_EQ(Fit(Asking(17), 84), "max_tokens: context_length_exceeded");
  EXPECT_EQ(Fit(Asking(1), 100), "prompt: context_length_exceeded");
  EXPECT_EQ(Fit(Asking(0), 100), "max_tokens 0") << "only the prompt is scored";
}

TEST(FitToContextTest, ALengthThatMayBendIsWhatTheContextLeaves) {
  GenerationRequest request = Asking(17);
  request.max_tokens_bend = true;
  EXPECT_EQ(Fit(request, 83), "max_tokens 17");
  EXPECT_EQ(Fit(request, 84), "max_tokens 16");
  EXPECT_EQ(Fit(request, 99), "max_tokens 1");
  EXPECT_EQ(Fit(request, 100), "prompt: context_length_exceeded");
}

TEST(FitToContextTest, ADefaultLengthThatDoesNotFitIsThePromptsFault) {
  GenerationRequest request = Asking({});
  request.max_tokens_default = 16;
  EXPECT_EQ(Fit(request, 84), "max_tokens 16");
  EXPECT_EQ(Fit(request, 85), "prompt: context_length_exceeded");
  request.names = &kChatNames;
  EXPECT_EQ(Fit(request, 85), "messages: context_length_exceeded");
}

TEST(FitToContextTest, ALeastLengthThatTheContextCannotHoldIsRefused) {
  EXPECT_EQ(Fit(Asking({}, 10), 90), "max_tokens 10");
  EXPECT_EQ(Fit(Asking({}, 11), 90), "min_tokens: context_length_exceeded");
}

TEST(FitToContextTest, EachWireNamesItsOwnFields) {
  GenerationRequest request = Asking(17, 11);
  request.names = &kChatNamesOfToday;
  EXPECT_EQ(Fit(request, 84), "max_completion_tokens: context_length_exceeded");
  request.names = &kProtoGenerateNames;
  EXPECT_EQ(Fit(request, 84), "stopping.max_tokens: context_length_exceeded");
  EXPECT_EQ(Fit(request, 100), "prompt_tokens: context_length_exceeded");
  request.max_tokens.reset();
  EXPECT_EQ(Fit(request, 90), "stopping.min_tokens: context_length_exceeded");
}

}  // namespace
}  // namespace holdfast
