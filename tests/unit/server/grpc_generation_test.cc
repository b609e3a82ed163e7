// Chat, Complete and Generate: what is asked, what is answered, and how calls end.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/time/clock.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "tests/unit/server/grpc_server_fixture.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using GrpcGenerationTest = GrpcServerFixture;

TEST_F(GrpcGenerationTest, AnswersAChatWhole) {
  Caller client;
  v1::ChatRequest request = Ask();
  request.set_n(2);
  request.set_top_logprobs(1);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_seed(7);
  request.mutable_options()->set_cache_salt("salt");
  v1::ChatResponse response;
  std::thread worker([&] {
    HandService::Started started = service_.Wait();
    EXPECT_EQ(started.request.tenant, TenantIndex{1});
    EXPECT_EQ(started.request.num_choices, 2);
    EXPECT_EQ(started.request.max_tokens, 5);
    EXPECT_EQ(started.request.sampling.temperature, 0.0f);
    EXPECT_EQ(started.request.sampling.seed, 7u);
    EXPECT_EQ(started.request.sampling.top_logprobs, 1);
    EXPECT_EQ(started.request.cache_salt, "salt");
    EXPECT_TRUE(started.request.want_text);
    const auto& chat = std::get<ChatInput>(started.request.prompt);
    EXPECT_EQ(chat.messages_json, R"([{"role":"user","content":"Hello"}])");
    started.writer.Push(PromptInfo{.prompt_tokens = 3});
    started.writer.Push(
        ChoiceDelta{.choice = 1,
                    .text = "Hi",
                    .tokens = {9},
                    .logprobs = {{.chosen = {.token = 9, .bytes = "Hi", .logprob = -0.5f},
                                  .top = {{.token = 8, .bytes = "Ho", .logprob = -1.5f}}}}});
    started.writer.Push(ChoiceDelta{.choice = 0, .text = "He", .finish = FinishReason::kLength});
    started.writer.Push(
        ChoiceDelta{.choice = 1, .text = "!", .finish = FinishReason::kStop, .stop_string = "\n"});
    started.writer.Push(
        GenerationDone{.prompt_tokens = 3, .cached_tokens = 2, .completion_tokens = 4});
  });
  const grpc::Status status = stub_->Chat(&client.context, request, &response);
  worker.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.id(), HasSubstr("chatcmpl-"));
  EXPECT_EQ(response.model(), "tiny");
  ASSERT_EQ(response.choices_size(), 2);
  EXPECT_EQ(response.choices(0).message().content(), "He");
  EXPECT_EQ(response.choices(0).message().role(), "assistant");
  EXPECT_EQ(response.choices(0).finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(response.choices(1).message().content(), "Hi!");
  EXPECT_EQ(response.choices(1).stop_string(), "\n");
  EXPECT_EQ(response.choices(1).logprobs(0).chosen().bytes(), "Hi");
  EXPECT_EQ(response.choices(1).logprobs(0).top(0).token_id(), 8);
  EXPECT_EQ(response.usage().prompt_tokens(), 3);
  EXPECT_EQ(response.usage().completion_tokens(), 4);
  EXPECT_EQ(response.usage().total_tokens(), 7);
  EXPECT_EQ(response.usage().cached_tokens(), 2);
}

TEST_F(GrpcGenerationTest, StreamsPiecesAndUsageInTheLast) {
  Caller client;
  auto reader = stub_->ChatStream(&client.context, Ask());
  HandService::Started started = service_.Wait();
  v1::ChatChunk chunk;
  for (const char* piece : {"a", "b", "c"}) {
    started.writer.Push(ChoiceDelta{.text = piece});
    ASSERT_TRUE(reader->Read(&chunk));
    EXPECT_EQ(chunk.choices(0).content(), piece);
    EXPECT_EQ(chunk.id(), started.request.wire_id);
  }
  started.writer.Push(ChoiceDelta{.finish = FinishReason::kStop});
  started.writer.Push(GenerationDone{.prompt_tokens = 1, .completion_tokens = 3});
  ASSERT_TRUE(reader->Read(&chunk));
  EXPECT_EQ(chunk.choices(0).finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_FALSE(chunk.has_usage());
  ASSERT_TRUE(reader->Read(&chunk));
  EXPECT_EQ(chunk.choices_size(), 0);
  EXPECT_EQ(chunk.usage().total_tokens(), 4);
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GrpcGenerationTest, CompletesWithEchoInTheFirstMessage) {
  Caller client;
  v1::CompleteRequest request;
  request.set_prompt("ab");
  request.set_echo(true);
  request.set_prompt_logprobs(0);
  auto reader = stub_->CompleteStream(&client.context, request);
  HandService::Started started = service_.Wait();
  EXPECT_EQ(std::get<std::string>(started.request.prompt), "ab");
  EXPECT_EQ(started.request.prompt_top_logprobs, 0);
  EXPECT_FALSE(started.request.max_tokens.has_value());
  PromptInfo prompt{.prompt_tokens = 2, .text = "ab", .tokens = {97, 98}};
  prompt.logprobs = {std::nullopt,
                     TokenTextWithTop{.chosen = {.token = 98, .bytes = "b", .logprob = -1.0f}}};
  started.writer.Push(std::move(prompt));
  v1::CompleteChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  EXPECT_EQ(chunk.prompt().text(), "ab");
  EXPECT_THAT(chunk.prompt().token_ids(), ElementsAre(97, 98));
  ASSERT_EQ(chunk.prompt().logprobs_size(), 1);
  EXPECT_EQ(chunk.prompt().logprobs(0).chosen().token_id(), 98);
  started.writer.Push(GenerationDone{});
  while (reader->Read(&chunk)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GrpcGenerationTest, TokensInTokensOut) {
  Caller client;
  v1::GenerateRequest request;
  request.add_prompt_tokens(4);
  request.add_prompt_tokens(2);
  std::thread worker([&] {
    HandService::Started started = service_.Wait();
    EXPECT_FALSE(started.request.want_text);
    EXPECT_THAT(std::get<std::vector<TokenId>>(started.request.prompt), ElementsAre(4, 2));
    started.writer.Push(ChoiceDelta{.tokens = {7, 8}, .finish = FinishReason::kLength});
    started.writer.Push(GenerationDone{});
  });
  v1::GenerateResponse response;
  EXPECT_TRUE(stub_->Generate(&client.context, request, &response).ok());
  worker.join();
  EXPECT_THAT(response.choices(0).tokens(), ElementsAre(7, 8));
}

TEST_F(GrpcGenerationTest, ToolsAreShownToTheTemplateWhenNoneIsToBeCalled) {
  Caller client;
  v1::ChatRequest request = Ask();
  request.add_tools()->set_name("t");
  request.mutable_tools(0)->set_parameters_json(R"({"type":"object"})");
  request.set_tool_choice(v1::TOOL_CHOICE_NONE);
  auto reader = stub_->ChatStream(&client.context, request);
  HandService::Started started = service_.Wait();
  EXPECT_EQ(std::get<ChatInput>(started.request.prompt).tools_json,
            R"([{"type":"function","function":{"name":"t","parameters":{"type":"object"}}}])");
  started.writer.Push(GenerationDone{});
  v1::ChatChunk chunk;
  while (reader->Read(&chunk)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GrpcGenerationTest, AnIdIsOneRunningCallsWithinItsTenantAndFreeWhenThatHasEnded) {
  v1::ChatRequest request = Ask();
  request.mutable_options()->set_request_id("mine");
  const auto end = [](HandService::Started started, auto& reader) {
    started.writer.Push(GenerationDone{});
    v1::ChatChunk chunk;
    while (reader->Read(&chunk)) {
    }
    EXPECT_TRUE(reader->Finish().ok());
  };
  for (int again = 0; again < 50; ++again) {  // free as soon as its caller has heard of the end
    Caller blue, red("red-key");
    auto blues = stub_->ChatStream(&blue.context, request);
    HandService::Started first = service_.Wait();
    EXPECT_EQ(first.request.wire_id, "mine");

    Caller twin;
    const grpc::Status refused = Refused(twin, request);
    ASSERT_EQ(refused.error_code(), grpc::StatusCode::ALREADY_EXISTS);
    EXPECT_THAT(refused.error_message(), HasSubstr("'mine'"));
    EXPECT_EQ(twin.Trailer("holdfast-error-param"), "options.request_id");
    EXPECT_EQ(twin.Trailer("holdfast-error-code"), "already_exists");

    auto reds = stub_->ChatStream(&red.context, request);
    end(service_.Wait(), reds);
    end(std::move(first), blues);
  }
}

TEST_F(GrpcGenerationTest, SaysWhenToTryAgain) {
  Caller client;
  auto reader = stub_->ChatStream(&client.context, Ask());
  absl::Status full = absl::ResourceExhaustedError("the queue is full");
  full.SetPayload(kRetryAfterUrl, absl::Cord("3"));
  service_.Wait().writer.Push(GenerationDone{.status = full});
  v1::ChatChunk chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "the queue is full");
  EXPECT_EQ(client.Trailer("retry-after"), "3");
  EXPECT_EQ(client.Trailer("grpc-retry-pushback-ms"), "3000");
  EXPECT_EQ(client.Trailer("holdfast-error-code"), "rate_limit_exceeded");
}

TEST_F(GrpcGenerationTest, AnErrorAfterTheFirstPieceEndsTheStreamWithItsStatus) {
  Caller client;
  auto reader = stub_->ChatStream(&client.context, Ask());
  HandService::Started started = service_.Wait();
  started.writer.Push(ChoiceDelta{.text = "a"});
  started.writer.Push(GenerationDone{.status = absl::DeadlineExceededError("too long")});
  v1::ChatChunk chunk;
  EXPECT_TRUE(reader->Read(&chunk));
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(GrpcGenerationTest, AClientThatCancelsStopsItsRequest) {
  {
    Caller client;
    auto reader = stub_->ChatStream(&client.context, Ask());
    HandService::Started started = service_.Wait();
    started.writer.Push(ChoiceDelta{.text = "a"});
    v1::ChatChunk chunk;
    ASSERT_TRUE(reader->Read(&chunk));
    client.context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
    while (service_.cancels() == 0) std::this_thread::yield();
  }  // the writer goes: the call ends
  server_->Shutdown(absl::InfiniteFuture());
}

TEST_F(GrpcGenerationTest, AClientsDeadlineStopsItsRequest) {
  // Once connected, and long enough that the request is there before it.
  Caller before;
  v1::ListModelsResponse models;
  ASSERT_TRUE(stub_->ListModels(&before.context, {}, &models).ok());
  Caller client;
  client.context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(500)));
  v1::ChatResponse response;
  EXPECT_EQ(stub_->Chat(&client.context, Ask(), &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  HandService::Started started = service_.Wait();
  while (service_.cancels() == 0) std::this_thread::yield();
}

TEST_F(GrpcGenerationTest, CancelsByIdWithinTheTenant) {
  v1::CancelRequest request;
  request.set_id("mine");
  for (const auto& [key, found] : {std::pair("red-key", false), {"blue-key", true}}) {
    Caller client(key);
    v1::CancelResponse response;
    ASSERT_TRUE(stub_->Cancel(&client.context, request, &response).ok());
    EXPECT_EQ(response.found(), found);
  }
}

TEST_F(GrpcGenerationTest, DescribesItsModelByNameAndAlias) {
  for (const char* name : {"tiny", "small"}) {
    Caller client;
    v1::GetModelRequest request;
    request.set_name(name);
    v1::Model model;
    ASSERT_TRUE(stub_->GetModel(&client.context, request, &model).ok());
    EXPECT_EQ(model.name(), "tiny");
    EXPECT_EQ(model.context_tokens(), 100);
    EXPECT_EQ(model.vocab_size(), 300);
  }
  Caller client;
  v1::GetModelRequest request;
  request.set_name("large");
  v1::Model model;
  EXPECT_EQ(stub_->GetModel(&client.context, request, &model).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace holdfast
