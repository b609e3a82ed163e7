#include "server/grpc_server.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <deque>
#include <functional>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "config/limits.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "server/grpc_codec.h"
#include "server/token_stream.h"
#include "tests/unit/server/self_signed_certificate.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Takes requests and lets the test say what comes of them.
class HandService final : public GenerationService {
 public:
  struct Started {
    GenerationRequest request;
    StreamWriter writer;
  };

  HandService() {
    info_.name = "tiny";
    info_.aliases = {"small"};
    info_.context_tokens = 100;
    info_.vocab_size = 300;
    info_.created_unix = 5;
    info_.has_chat_template = true;
    info_.tool_calls = ToolCallFormat::kHermes;
    info_.embedding_size = 2;
  }

  std::shared_ptr<GenerationStream> Start(GenerationRequest request) override {
    StreamEnds ends = MakeTokenStream([this] { ++cancels_; });
    absl::MutexLock lock(&mutex_);
    started_.push_back({.request = std::move(request), .writer = std::move(ends.writer)});
    return ends.reader;
  }
  bool CancelByWireId(TenantIndex tenant, const std::string& wire_id) override {
    return tenant == TenantIndex{1} && wire_id == "mine";
  }
  void Tokenize(TextCaller, std::variant<ChatInput, std::string>, bool,
                absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)>) override {}
  void Detokenize(TextCaller, std::vector<TokenId>,
                  absl::AnyInvocable<void(absl::StatusOr<std::string>)>) override {}
  std::string TokenText(TokenId) const override { return ""; }
  const ModelInfo& model_info() const override { return info_; }

  Started Wait() {
    absl::MutexLock lock(&mutex_);
    auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !started_.empty(); };
    mutex_.Await(absl::Condition(&there));
    Started started = std::move(started_.front());
    started_.pop_front();
    return started;
  }
  bool nothing_started() {
    absl::MutexLock lock(&mutex_);
    return started_.empty();
  }
  int cancels() const { return cancels_; }

 private:
  ModelInfo info_;
  std::atomic<int> cancels_{0};
  absl::Mutex mutex_;
  std::deque<Started> started_ ABSL_GUARDED_BY(mutex_);
};

class TwoKeys final : public Authenticator {
 public:
  absl::StatusOr<Authenticated> Authenticate(std::string_view key) const override {
    if (key == "red-key") return Authenticated{.tenant = TenantIndex{0}};
    if (key == "blue-key") return Authenticated{.tenant = TenantIndex{1}};
    absl::Status status = absl::UnauthenticatedError("the key is not known");
    status.SetPayload(kErrorCodeUrl, absl::Cord("invalid_api_key"));
    return status;
  }
};

// One call's client side: a context with a key, and what is read off it afterwards.
struct Client {
  explicit Client(const std::string& key = "blue-key") {
    if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
  }
  std::string Trailer(const std::string& name) {
    const auto& trailers = context.GetServerTrailingMetadata();
    const auto found = trailers.find(name);
    return found == trailers.end() ? "" : std::string(found->second.data(), found->second.size());
  }
  grpc::ClientContext context;
};

class GrpcServerTest : public testing::Test {
 protected:
  GrpcServerTest() {
    auto server = GrpcServer::Create({.address = "127.0.0.1:0"}, service_, keys_,
                                     [this] { return readiness_.load(); });
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::Generation::NewStub(channel_);
  }

  v1::ChatRequest Ask() {
    v1::ChatRequest request;
    v1::Message& message = *request.add_messages();
    message.set_role("user");
    message.set_content("Hello");
    request.mutable_stopping()->set_max_tokens(5);
    return request;
  }
  // The status of a chat that is refused before it starts.
  grpc::Status Refused(Client& client, const v1::ChatRequest& request) {
    v1::ChatResponse response;
    const grpc::Status status = stub_->Chat(&client.context, request, &response);
    EXPECT_TRUE(service_.nothing_started());
    return status;
  }
  // As seen by a load balancer, without the generated stubs of the health service.
  int Health(const std::string& name) {
    grpc::ClientContext context;
    grpc::GenericStub stub(channel_);
    grpc::CompletionQueue queue;
    std::string bytes;
    if (!name.empty()) {  // HealthCheckRequest { string service = 1; }
      bytes = absl::StrCat("\x0a", std::string(1, static_cast<char>(name.size())), name);
    }
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, this);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    if (!status.ok()) return -static_cast<int>(status.error_code());
    grpc::Slice answer;  // HealthCheckResponse { ServingStatus status = 1; }
    EXPECT_TRUE(response.DumpToSingleSlice(&answer).ok());
    return answer.size() == 2 ? answer.begin()[1] : 0;
  }

  HandService service_;
  TwoKeys keys_;
  std::atomic<Readiness> readiness_{Readiness::kReady};
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Generation::Stub> stub_;
};

TEST_F(GrpcServerTest, AnswersAChatWhole) {
  Client client;
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

TEST_F(GrpcServerTest, StreamsPiecesAndUsageInTheLast) {
  Client client;
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

TEST_F(GrpcServerTest, CompletesWithEchoInTheFirstMessage) {
  Client client;
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

TEST_F(GrpcServerTest, TokensInTokensOut) {
  Client client;
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

TEST_F(GrpcServerTest, EmbedsTextsAndTokensInTheirOrder) {
  v1::EmbedRequest request;
  request.add_inputs()->set_text("ab");
  request.add_inputs()->mutable_tokens()->add_ids(4);
  request.mutable_options()->set_cache_salt("salt");
  std::thread worker([&] {
    std::vector<HandService::Started> started;
    for (int i = 0; i < 2; ++i) started.push_back(service_.Wait());
    EXPECT_EQ(std::get<std::string>(started[0].request.prompt), "ab");
    EXPECT_THAT(std::get<std::vector<TokenId>>(started[1].request.prompt), ElementsAre(4));
    EXPECT_EQ(started[0].request.wire_id, started[1].request.wire_id);
    EXPECT_EQ(started[1].request.cache_salt, "salt");
    EXPECT_EQ(started[1].request.tenant, TenantIndex{1});
    for (int i = 1; i >= 0; --i) {
      const float number = static_cast<float>(i);
      started[i].writer.Push(PromptInfo{.prompt_tokens = 3, .embedding = {number, -number}});
      started[i].writer.Push(ChoiceDelta{.finish = FinishReason::kLength});
      started[i].writer.Push(GenerationDone{.prompt_tokens = 3, .cached_tokens = 1});
    }
  });
  Client client;
  v1::EmbedResponse response;
  EXPECT_TRUE(stub_->Embed(&client.context, request, &response).ok());
  worker.join();
  ASSERT_EQ(response.embeddings_size(), 2);
  EXPECT_THAT(response.embeddings(1).values(), ElementsAre(1.0f, -1.0f));
  EXPECT_EQ(response.usage().total_tokens(), 6);
  EXPECT_EQ(response.usage().cached_tokens(), 2);
  EXPECT_EQ(response.model(), "tiny");
}

TEST_F(GrpcServerTest, AnEmbeddingThatFailsFailsTheCallAndStopsTheOthers) {
  v1::EmbedRequest request;
  request.add_inputs()->set_text("a");
  request.add_inputs()->set_text("b");
  std::thread worker([&] {
    HandService::Started first = service_.Wait(), second = service_.Wait();
    first.writer.Push(GenerationDone{.status = absl::UnavailableError("the device is gone")});
    while (service_.cancels() == 0) std::this_thread::yield();
  });
  Client client;
  v1::EmbedResponse response;
  EXPECT_EQ(stub_->Embed(&client.context, request, &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  worker.join();
}

TEST_F(GrpcServerTest, RefusesWhatCannotBeEmbeddedByName) {
  const auto refused = [&](const v1::EmbedRequest& request) {
    Client client;
    v1::EmbedResponse response;
    EXPECT_EQ(stub_->Embed(&client.context, request, &response).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_TRUE(service_.nothing_started());
    return client.Trailer("holdfast-error-param");
  };
  v1::EmbedRequest request;
  EXPECT_EQ(refused(request), "inputs");
  request.add_inputs()->set_text("a");
  request.add_inputs();
  EXPECT_EQ(refused(request), "inputs[1]");
  request.mutable_inputs(1)->mutable_tokens()->add_ids(300);
  EXPECT_EQ(refused(request), "inputs[1]");
  request.mutable_inputs()->RemoveLast();
  request.set_dimensions(1);
  EXPECT_EQ(refused(request), "dimensions");
  request.clear_dimensions();
  request.mutable_options()->set_session_id("s");
  EXPECT_EQ(refused(request), "options");
}

TEST_F(GrpcServerTest, RefusesAWrongOrMissingKeyAndTakesEitherHeader) {
  for (const char* key : {"", "wrong"}) {
    Client client(key);
    EXPECT_EQ(Refused(client, Ask()).error_code(), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(client.Trailer("holdfast-error-code"), "invalid_api_key");
  }
  grpc::ClientContext context;
  context.AddMetadata("x-api-key", "red-key");
  v1::ListModelsResponse models;
  EXPECT_TRUE(stub_->ListModels(&context, {}, &models).ok());
}

TEST_F(GrpcServerTest, NamesTheFieldThatIsOutOfRange) {
  const std::map<std::string, std::function<void(v1::ChatRequest&)>> faults = {
      {"sampling.temperature", [](auto& r) { r.mutable_sampling()->set_temperature(3); }},
      {"sampling.top_p", [](auto& r) { r.mutable_sampling()->set_top_p(std::nanf("")); }},
      {"sampling.logit_bias",
       [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[9999] = 1; }},
      {"n", [](auto& r) { r.set_n(0); }},
      {"top_logprobs", [](auto& r) { r.set_top_logprobs(21); }},
      {"stopping.max_tokens", [](auto& r) { r.mutable_stopping()->set_max_tokens(-1); }},
      {"stopping.stop", [](auto& r) { r.mutable_stopping()->add_stop(""); }},
      {"stopping.stop_token_ids", [](auto& r) { r.mutable_stopping()->add_stop_token_ids(-4); }},
      {"messages", [](auto& r) { r.clear_messages(); }},
      {"messages[0].role", [](auto& r) { r.mutable_messages(0)->set_role("king"); }},
      {"stopping.min_tokens",
       [](auto& r) {
         r.mutable_stopping()->set_max_tokens(3);
         r.mutable_stopping()->set_min_tokens(4);
       }},
      {"options.tool_hint.name", [](auto& r) { r.mutable_options()->mutable_tool_hint(); }},
      {"options.tool_hint.expected_ms",
       [](auto& r) {
         r.mutable_options()->mutable_tool_hint()->set_name("bash");
         r.mutable_options()->mutable_tool_hint()->set_expected_ms(-1);
       }},
      {"options.cache_salt",
       [](auto& r) {
         r.mutable_options()->set_cache_salt(std::string(kCacheSaltBytesMax + 1, 'x'));
       }},
      {"tools[0].parameters_json",
       [](auto& r) {
         r.add_tools()->set_name("t");
         r.mutable_tools(0)->set_parameters_json("{");
       }},
      {"tools[1].parameters_json",
       [](auto& r) {
         r.add_tools()->set_name("t");
         r.add_tools()->set_parameters_json("[]");
       }},
      {"tools[0].name",
       [](auto& r) { r.add_tools()->set_name(std::string(kUserStringBytesMax + 1, 'x')); }},
      {"tool_function",
       [](auto& r) {
         r.add_tools()->set_name("t");
         r.set_tool_function("u");
       }},
      {"tool_choice", [](auto& r) { r.set_tool_choice(static_cast<v1::ToolChoice>(9)); }},
      {"messages[0].tool_calls[0].function_name",
       [](auto& r) {
         r.mutable_messages(0)->set_role("assistant");
         v1::ToolCall& call = *r.mutable_messages(0)->add_tool_calls();
         call.set_function_name(std::string(kUserStringBytesMax + 1, 'x'));
       }},
      {"chat_template_kwargs_json", [](auto& r) { r.set_chat_template_kwargs_json("[1]"); }},
      {"chat_template_kwargs_json.bos_token",
       [](auto& r) { r.set_chat_template_kwargs_json(R"({"bos_token":"x"})"); }},
      {"structured_outputs", [](auto& r) { r.mutable_structured_outputs(); }},
      {"structured_outputs.regex",
       [](auto& r) {
         r.mutable_structured_outputs()->set_json("{}");
         r.mutable_structured_outputs()->set_regex("a");
       }},
      {"structured_outputs.json",
       [](auto& r) {
         r.mutable_structured_outputs()->set_json(std::string(kGrammarBytesMax + 1, ' '));
       }},
      {"structured_outputs.choice",
       [](auto& r) {
         auto& choice = *r.mutable_structured_outputs()->mutable_choice();
         for (size_t i = 0; i <= kGrammarChoicesMax; ++i) choice.Add("a");
       }},
      {"structured_outputs.grammar",
       [](auto& r) {
         r.add_tools()->set_name("t");
         r.mutable_structured_outputs()->set_grammar("start: \"a\"");
       }},
      {"structured_outputs.structural_tag",
       [](auto& r) {
         r.mutable_structured_outputs()->set_regex("a");
         r.mutable_structured_outputs()->set_structural_tag(
             R"({"structures": [], "triggers": ["<"]})");
       }},
      {"structured_outputs.structural_tag.triggers",
       [](auto& r) {
         r.mutable_structured_outputs()->set_structural_tag(R"({"structures": []})");
       }},
      {"options.request_id",
       [](auto& r) {
         r.mutable_options()->set_request_id(std::string(kUserStringBytesMax + 1, 'x'));
       }},
  };
  for (const auto& [param, spoil] : faults) {
    SCOPED_TRACE(param);
    v1::ChatRequest request = Ask();
    spoil(request);
    Client client;
    const grpc::Status status = Refused(client, request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_EQ(client.Trailer("holdfast-error-param"), param);
    EXPECT_THAT(status.error_message(), HasSubstr(param)) << "the words use the same name";
    EXPECT_NE(client.Trailer("holdfast-error-code"), "");
    EXPECT_EQ(client.Trailer("retry-after"), "");
  }
}

TEST_F(GrpcServerTest, AFormOfTheAnswerIsTheOneThatHttpTakes) {
  const std::vector<std::pair<std::string, AnswerGrammar>> forms = {
      {R"(json: "{}")", {{GrammarKind::kJsonSchema, "{}"}, "structured_outputs.json"}},
      {"json_object: true",
       {{GrammarKind::kJsonSchema, R"({"type": "object"})"}, "structured_outputs.json_object"}},
      {R"(regex: "a+")", {{GrammarKind::kRegex, "a+"}, "structured_outputs.regex"}},
      {R"(choice: ["a", "b"])",
       {{GrammarKind::kChoice, R"(["a","b"])"}, "structured_outputs.choice"}},
      {R"(grammar: "start: /a/")",
       {{GrammarKind::kLark, "start: /a/"}, "structured_outputs.grammar"}},
      {R"(structural_tag: '{"structures": [{"begin": "<f>", "schema": {}, "end": "</f>"}],')"
       R"(' "triggers": ["<f"]}')",
       {{GrammarKind::kStructuralTags,
         R"({"at_least_one":false,"stop_after_first":false,"tags":[{"begin":"<f>","end":"</f>",)"
         R"("schema":{},"place":"structures[0]"}],"triggers":["<f"]})"},
        "structured_outputs.structural_tag"}}};
  for (const auto& [text, wanted] : forms) {
    SCOPED_TRACE(text);
    v1::ChatRequest chat = Ask();
    v1::CompleteRequest complete;
    complete.set_prompt("a");
    ASSERT_TRUE(
        google::protobuf::TextFormat::ParseFromString(text, chat.mutable_structured_outputs()));
    *complete.mutable_structured_outputs() = chat.structured_outputs();
    const GenerationService::ModelInfo& info = service_.model_info();
    for (const auto& request : {Decode(chat, info), Decode(complete, info)}) {
      ASSERT_TRUE(request.ok()) << request.status();
      ASSERT_TRUE(request->grammar.has_value());
      EXPECT_EQ(request->grammar->source.kind, wanted.source.kind);
      EXPECT_EQ(request->grammar->source.text, wanted.source.text);
      EXPECT_EQ(request->grammar->param, wanted.param);
    }
  }
}

TEST_F(GrpcServerTest, GenerateNamesItsOwnFields) {
  const std::map<std::string, std::function<void(v1::GenerateRequest&)>> faults = {
      {"prompt_tokens", [](auto& r) { r.add_prompt_tokens(9999); }},
      {"prompt_logprobs", [](auto& r) { r.set_prompt_logprobs(21); }},
      {"top_logprobs", [](auto& r) { r.set_top_logprobs(21); }},
      {"stopping.stop", [](auto& r) { r.mutable_stopping()->add_stop("x"); }},
  };
  for (const auto& [param, spoil] : faults) {
    SCOPED_TRACE(param);
    v1::GenerateRequest request;
    request.add_prompt_tokens(1);
    spoil(request);
    Client client;
    v1::GenerateResponse response;
    EXPECT_EQ(stub_->Generate(&client.context, request, &response).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(client.Trailer("holdfast-error-param"), param);
  }
}

TEST_F(GrpcServerTest, ToolsAreShownToTheTemplateWhenNoneIsToBeCalled) {
  Client client;
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

TEST_F(GrpcServerTest, AnIdIsOneRunningCallsWithinItsTenantAndFreeWhenThatHasEnded) {
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
    Client blue, red("red-key");
    auto blues = stub_->ChatStream(&blue.context, request);
    HandService::Started first = service_.Wait();
    EXPECT_EQ(first.request.wire_id, "mine");

    Client twin;
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

TEST_F(GrpcServerTest, RefusesAModelThatIsNotServed) {
  Client client;
  v1::ChatRequest request = Ask();
  request.set_model("gpt-4");
  EXPECT_EQ(Refused(client, request).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(client.Trailer("holdfast-error-code"), "model_not_found");
}

TEST_F(GrpcServerTest, RefusesStopStringsWhereThereIsNoText) {
  Client client;
  v1::GenerateRequest request;
  request.add_prompt_tokens(1);
  request.mutable_stopping()->add_stop("x");
  v1::GenerateResponse response;
  EXPECT_EQ(stub_->Generate(&client.context, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(client.Trailer("holdfast-error-param"), "stopping.stop");
}

TEST_F(GrpcServerTest, RefusesAMessageThatIsTooLarge) {
  Client client;
  v1::ChatRequest request = Ask();
  request.mutable_messages(0)->set_content(std::string(kRequestBodyBytesMax + 1, 'x'));
  // By the gRPC library, before we see it: what tells it from a full queue is that nobody says when
  // to try again.
  EXPECT_EQ(Refused(client, request).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(client.Trailer("retry-after"), "");
  EXPECT_EQ(client.Trailer("grpc-retry-pushback-ms"), "");
}

TEST_F(GrpcServerTest, SaysWhenToTryAgain) {
  Client client;
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

TEST_F(GrpcServerTest, AnErrorAfterTheFirstPieceEndsTheStreamWithItsStatus) {
  Client client;
  auto reader = stub_->ChatStream(&client.context, Ask());
  HandService::Started started = service_.Wait();
  started.writer.Push(ChoiceDelta{.text = "a"});
  started.writer.Push(GenerationDone{.status = absl::DeadlineExceededError("too long")});
  v1::ChatChunk chunk;
  EXPECT_TRUE(reader->Read(&chunk));
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(GrpcServerTest, AClientThatCancelsStopsItsRequest) {
  {
    Client client;
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

TEST_F(GrpcServerTest, AClientsDeadlineStopsItsRequest) {
  Client client;
  client.context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(50)));
  v1::ChatResponse response;
  EXPECT_EQ(stub_->Chat(&client.context, Ask(), &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  HandService::Started started = service_.Wait();
  while (service_.cancels() == 0) std::this_thread::yield();
}

TEST_F(GrpcServerTest, CancelsByIdWithinTheTenant) {
  v1::CancelRequest request;
  request.set_id("mine");
  for (const auto& [key, found] : {std::pair("red-key", false), {"blue-key", true}}) {
    Client client(key);
    v1::CancelResponse response;
    ASSERT_TRUE(stub_->Cancel(&client.context, request, &response).ok());
    EXPECT_EQ(response.found(), found);
  }
}

TEST_F(GrpcServerTest, DescribesItsModelByNameAndAlias) {
  for (const char* name : {"tiny", "small"}) {
    Client client;
    v1::GetModelRequest request;
    request.set_name(name);
    v1::Model model;
    ASSERT_TRUE(stub_->GetModel(&client.context, request, &model).ok());
    EXPECT_EQ(model.name(), "tiny");
    EXPECT_EQ(model.context_tokens(), 100);
    EXPECT_EQ(model.vocab_size(), 300);
  }
  Client client;
  v1::GetModelRequest request;
  request.set_name("large");
  v1::Model model;
  EXPECT_EQ(stub_->GetModel(&client.context, request, &model).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(GrpcServerTest, HealthFollowsReadinessAndCallsAreRefusedMeanwhile) {
  constexpr int kServing = 1, kNotServing = 2;
  EXPECT_EQ(Health(""), kServing);
  EXPECT_EQ(Health("holdfast.v1.Generation"), kServing);
  EXPECT_EQ(Health("other"), -static_cast<int>(grpc::StatusCode::NOT_FOUND));
  readiness_ = Readiness::kFailing;
  server_->SetReadiness(Readiness::kFailing);
  EXPECT_EQ(Health(""), kNotServing);
  Client early;
  const grpc::Status failing = Refused(early, Ask());
  EXPECT_EQ(failing.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_NE(failing.error_message().find("engine has failed"), std::string::npos);
  server_->SetReadiness(Readiness::kReady);
  EXPECT_EQ(Health(""), kServing);
  readiness_ = Readiness::kDraining;
  server_->BeginDrain();
  EXPECT_EQ(Health(""), kNotServing);
  EXPECT_EQ(Health("holdfast.v1.Generation"), kNotServing);
  Client client;
  EXPECT_EQ(Refused(client, Ask()).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(client.Trailer("retry-after"), "5");
}

TEST_F(GrpcServerTest, ReflectionIsThere) {
  grpc::ClientContext context;
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return ok;
  };
  call->StartCall(this);
  ASSERT_TRUE(next());
  const std::string bytes("\x3a\x01*", 3);  // ServerReflectionRequest { list_services = 7: "*" }
  const grpc::Slice slice(bytes);
  call->Write(grpc::ByteBuffer(&slice, 1), this);
  ASSERT_TRUE(next());
  grpc::ByteBuffer response;
  call->Read(&response, this);
  ASSERT_TRUE(next());
  grpc::Slice answer;
  ASSERT_TRUE(response.DumpToSingleSlice(&answer).ok());
  EXPECT_THAT(std::string(reinterpret_cast<const char*>(answer.begin()), answer.size()),
              HasSubstr("holdfast.v1.Generation"));
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, this);
  next();
}

TEST_F(GrpcServerTest, ShutdownWaitsForWhatRuns) {
  Client client;
  auto reader = stub_->ChatStream(&client.context, Ask());
  HandService::Started started = service_.Wait();
  std::thread stopper([&] { server_->Shutdown(absl::InfiniteFuture()); });
  started.writer.Push(ChoiceDelta{.text = "a", .finish = FinishReason::kStop});
  started.writer.Push(GenerationDone{});
  v1::ChatChunk chunk;
  std::string text;
  while (reader->Read(&chunk)) {
    for (const auto& choice : chunk.choices()) text += choice.content();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "a");
  stopper.join();
}

TEST_F(GrpcServerTest, ShutdownAtItsDeadlineCancelsWhatRuns) {
  Client client;
  auto reader = stub_->ChatStream(&client.context, Ask());
  std::thread worker([&, started = service_.Wait()]() mutable {
    while (service_.cancels() == 0) std::this_thread::yield();
    started.writer.Push(GenerationDone{.status = absl::CancelledError("cancelled")});
  });
  server_->Shutdown(absl::InfinitePast());
  worker.join();
  v1::ChatChunk chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(GrpcServerTest, ATakenPortIsRefused) {
  const auto second = GrpcServer::Create({.address = absl::StrCat("127.0.0.1:", server_->port())},
                                         service_, keys_, [] { return Readiness::kReady; });
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(GrpcServerTest, MissingTlsFilesAreNamed) {
  const auto server = GrpcServer::Create(
      {.address = "127.0.0.1:0",
       .tls = TlsConfig{.certificate_path = "/no/such.pem", .key_path = "/no/such.key"}},
      service_, keys_, [] { return Readiness::kReady; });
  EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("/no/such.pem"));
}

TEST_F(GrpcServerTest, RefusesGenerationsBeyondItsBoundUntilOneEnds) {
  auto server = GrpcServer::Create({.address = "127.0.0.1:0", .calls_max = 1}, service_, keys_,
                                   [] { return Readiness::kReady; });
  ASSERT_TRUE(server.ok()) << server.status();
  auto stub = v1::Generation::NewStub(grpc::CreateChannel(
      absl::StrCat("127.0.0.1:", (*server)->port()), grpc::InsecureChannelCredentials()));
  Client first;
  auto reader = stub->ChatStream(&first.context, Ask());
  HandService::Started started = service_.Wait();

  Client second;
  v1::ChatResponse response;
  const grpc::Status refused = stub->Chat(&second.context, Ask(), &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(second.Trailer("retry-after"), "1");
  EXPECT_TRUE(service_.nothing_started());

  started.writer.Push(GenerationDone{});
  v1::ChatChunk chunk;
  while (reader->Read(&chunk)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GrpcServerTest, UnderTlsItAnswersWhoTrustsItsCertificateAndHasAKey) {
  const SelfSignedCertificate certificate;
  auto server = GrpcServer::Create({.address = "127.0.0.1:0", .tls = certificate.files()}, service_,
                                   keys_, [] { return Readiness::kReady; });
  ASSERT_TRUE(server.ok()) << server.status();

  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride("localhost");
  const std::string address = absl::StrCat("127.0.0.1:", (*server)->port());
  auto list = [&](const std::string& roots, const std::string& key,
                  v1::ListModelsResponse& models) {
    grpc::SslCredentialsOptions trust;
    trust.pem_root_certs = roots;
    auto stub = v1::Generation::NewStub(
        grpc::CreateCustomChannel(address, grpc::SslCredentials(trust), arguments));
    Client client(key);
    return stub->ListModels(&client.context, {}, &models).error_code();
  };
  v1::ListModelsResponse models;
  EXPECT_EQ(list(certificate.certificate(), "blue-key", models), grpc::StatusCode::OK);
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(list(certificate.certificate(), "no-key", models), grpc::StatusCode::UNAUTHENTICATED);

  auto plain =
      v1::Generation::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  Client client;
  EXPECT_EQ(plain->ListModels(&client.context, {}, &models).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace holdfast
