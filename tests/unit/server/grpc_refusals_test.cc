// Which requests to generate are refused, by which names and codes, and how a form that is not is
// read.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "config/limits.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "server/grpc_codec.h"
#include "tests/unit/server/grpc_server_fixture.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

using GrpcRefusalsTest = GrpcServerFixture;

TEST_F(GrpcRefusalsTest, RefusesAWrongOrMissingKeyAndTakesEitherHeader) {
  for (const char* key : {"", "wrong"}) {
    Caller client(key);
    EXPECT_EQ(Refused(client, Ask()).error_code(), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(client.Trailer("holdfast-error-code"), "invalid_api_key");
  }
  grpc::ClientContext context;
  context.AddMetadata("x-api-key", "red-key");
  v1::ListModelsResponse models;
  EXPECT_TRUE(stub_->ListModels(&context, {}, &models).ok());
}

TEST_F(GrpcRefusalsTest, NamesTheFieldThatIsOutOfRange) {
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
    Caller client;
    const grpc::Status status = Refused(client, request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_EQ(client.Trailer("holdfast-error-param"), param);
    EXPECT_THAT(status.error_message(), HasSubstr(param)) << "the words use the same name";
    EXPECT_NE(client.Trailer("holdfast-error-code"), "");
    EXPECT_EQ(client.Trailer("retry-after"), "");
  }
}

TEST_F(GrpcRefusalsTest, AFormOfTheAnswerIsTheOneThatHttpTakes) {
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

TEST_F(GrpcRefusalsTest, GenerateNamesItsOwnFields) {
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
    Caller client;
    v1::GenerateResponse response;
    EXPECT_EQ(stub_->Generate(&client.context, request, &response).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(client.Trailer("holdfast-error-param"), param);
  }
}

TEST_F(GrpcRefusalsTest, RefusesAModelThatIsNotServed) {
  Caller client;
  v1::ChatRequest request = Ask();
  request.set_model("gpt-4");
  EXPECT_EQ(Refused(client, request).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(client.Trailer("holdfast-error-code"), "model_not_found");
}

TEST_F(GrpcRefusalsTest, RefusesStopStringsWhereThereIsNoText) {
  Caller client;
  v1::GenerateRequest request;
  request.add_prompt_tokens(1);
  request.mutable_stopping()->add_stop("x");
  v1::GenerateResponse response;
  EXPECT_EQ(stub_->Generate(&client.context, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(client.Trailer("holdfast-error-param"), "stopping.stop");
}

TEST_F(GrpcRefusalsTest, RefusesAMessageThatIsTooLarge) {
  Caller client;
  v1::ChatRequest request = Ask();
  request.mutable_messages(0)->set_content(std::string(kRequestBodyBytesMax + 1, 'x'));
  // By the gRPC library, before we see it: what tells it from a full queue is that nobody says when
  // to try again.
  EXPECT_EQ(Refused(client, request).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(client.Trailer("retry-after"), "");
  EXPECT_EQ(client.Trailer("grpc-retry-pushback-ms"), "");
}

}  // namespace
}  // namespace holdfast
