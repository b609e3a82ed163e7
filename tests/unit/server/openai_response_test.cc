#include "server/openai_response.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace holdfast {
namespace {

using testing::HasSubstr;

AnswerHead Head(const char* id) {
  return {.id = id,
          .created_unix = 5,
          .model = "tiny",
          .system_fingerprint = "fp_1",
          .token_text = [](TokenId token) { return std::string(1, static_cast<char>(token)); }};
}

TokenTextWithTop Logprob(const std::string& bytes, float logprob) {
  return {.chosen = {.token = 1, .bytes = bytes, .logprob = logprob},
          .top = {{.token = 1, .bytes = bytes, .logprob = logprob},
                  {.token = 2, .bytes = "z", .logprob = -2}}};
}

GenerationDone Done(int32_t prompt, int32_t cached, int32_t completion) {
  return {absl::OkStatus(), prompt, cached, completion};
}

TEST(AnswerBodyTest, ChatAnswerIsOpenAisByteForByte) {
  AnswerBody answer(Head("chatcmpl-1"), {.chat = true, .num_choices = 2});
  answer.Add(0, PromptInfo{.prompt_tokens = 3, .cached_tokens = 1});
  answer.Add(0,
             ChoiceDelta{.choice = 1, .text = "b", .tokens = {2}, .finish = FinishReason::kLength});
  answer.Add(0, ChoiceDelta{.choice = 0, .text = "a\"", .tokens = {1}});
  answer.Add(0,
             ChoiceDelta{.choice = 0, .text = "ü", .tokens = {1}, .finish = FinishReason::kStop});
  answer.Add(0, Done(3, 1, 3));
  EXPECT_EQ(answer.Finish(),
            R"({"id":"chatcmpl-1","object":"chat.completion","created":5,"model":"tiny",)"
            R"("system_fingerprint":"fp_1","choices":[)"
            R"({"index":0,"message":{"role":"assistant","content":"a\"ü","refusal":null},)"
            R"("logprobs":null,"finish_reason":"stop"},)"
            R"({"index":1,"message":{"role":"assistant","content":"b","refusal":null},)"
            R"("logprobs":null,"finish_reason":"length"}],)"
            R"("usage":{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6,)"
            R"("prompt_tokens_details":{"cached_tokens":1},)"
            R"("completion_tokens_details":{"reasoning_tokens":0}}})");
}

TEST(AnswerBodyTest, ChatLogprobsCarryBytes) {
  AnswerBody answer(Head("chatcmpl-1"), {.chat = true, .logprobs = true});
  answer.Add(0, ChoiceDelta{.text = "a",
                            .tokens = {1},
                            .logprobs = {Logprob("\xe2\x9c", -0.5f)},
                            .finish = FinishReason::kStop});
  answer.Add(0, Done(1, 0, 1));
  EXPECT_THAT(answer.Finish(),
              HasSubstr("\"logprobs\":{\"content\":[{\"token\":\"\xef\xbf\xbd\",\"logprob\":-0.5,"
                        "\"bytes\":[226,156],\"top_logprobs\":[{\"token\":\"\xef\xbf\xbd\","
                        "\"logprob\":-0.5,\"bytes\":[226,156]},{\"token\":\"z\",\"logprob\":-2.0,"
                        "\"bytes\":[122]}]}],\"refusal\":null}"));
}

TEST(AnswerBodyTest, CompletionsCountChoicesOverPromptsAndOffsetsOverTheEcho) {
  AnswerBody answer(
      Head("cmpl-1"),
      {.chat = false, .num_prompts = 2, .num_choices = 1, .echo = true, .logprobs = true});
  for (int prompt = 0; prompt < 2; ++prompt) {
    answer.Add(prompt, PromptInfo{.prompt_tokens = 2,
                                  .text = "Pü",
                                  .tokens = {'P', 'u'},
                                  .logprobs = {std::nullopt, Logprob("ü", -1)},
                                  .text_offsets = {0, 1}});
    answer.Add(prompt, ChoiceDelta{.text = prompt == 0 ? "x" : "y",
                                   .tokens = {9},
                                   .logprobs = {Logprob("\xff", -0.5f)},
                                   .finish = FinishReason::kStop});
    answer.Add(prompt, Done(2, 0, 1));
  }
  const std::string body = answer.Finish();
  EXPECT_THAT(body, HasSubstr(R"("object":"text_completion")"));
  EXPECT_THAT(body, HasSubstr(R"({"index":0,"text":"Püx","logprobs":{"tokens":["P","ü",)"
                              R"("bytes:\\xff"],"token_logprobs":[null,-1.0,-0.5],)"
                              R"("top_logprobs":[null,{"ü":-1.0,"z":-2.0},)"
                              R"({"bytes:\\xff":-0.5,"z":-2.0}],"text_offset":[0,1,2]},)"
                              R"("finish_reason":"stop"},{"index":1,"text":"Püy")"));
  EXPECT_THAT(body, HasSubstr(R"("prompt_tokens":4,"completion_tokens":2,"total_tokens":6)"));
}

TEST(AnswerBodyTest, TokensThatTheTextHidesTakeNoRoomInItsOffsets) {
  AnswerBody answer(Head("cmpl-1"), {.chat = false, .echo = true, .logprobs = true});
  answer.Add(0, PromptInfo{.prompt_tokens = 3,
                           .text = "Pü",
                           .tokens = {'^', 'P', 'u'},
                           .logprobs = {std::nullopt, Logprob("P", -1), Logprob("ü", -1)},
                           .text_offsets = {0, 0, 1}});
  TokenTextWithTop control = Logprob("<|im_end|>", -0.5f);
  control.hidden = true;
  answer.Add(0, ChoiceDelta{.text = "xy",
                            .tokens = {1, 2, 3},
                            .logprobs = {Logprob("x", -1), control, Logprob("y", -1)},
                            .finish = FinishReason::kLength});
  answer.Add(0, Done(3, 0, 3));
  EXPECT_THAT(answer.Finish(), HasSubstr(R"("text_offset":[0,0,1,2,3,3])"));
}

TEST(AnswerBodyTest, TokensOfOneCharacterLieWhereItBegins) {
  AnswerBody answer(Head("cmpl-1"), {.chat = false, .logprobs = true});
  answer.Add(0, ChoiceDelta{.text = "a😀b",
                            .tokens = {1, 2, 3, 4},
                            .logprobs = {Logprob("a", -1), Logprob("\xf0\x9f", -1),
                                         Logprob("\x98\x80", -1), Logprob("b", -1)},
                            .finish = FinishReason::kLength});
  answer.Add(0, Done(1, 0, 4));
  EXPECT_THAT(answer.Finish(), HasSubstr(R"("text_offset":[0,1,1,2])"));
}

TEST(AnswerStreamTest, ChatStreamIsOpenAisByteForByte) {
  AnswerStream stream(Head("chatcmpl-1"), {.chat = true, .stream = true, .include_usage = true});
  std::string sse;
  stream.Append(0, PromptInfo{.prompt_tokens = 3}, sse);
  stream.Append(0, ChoiceDelta{.text = "hé", .tokens = {1}}, sse);
  stream.Append(0, ChoiceDelta{.text = "", .tokens = {2}}, sse);
  stream.Append(0, ChoiceDelta{.text = "!", .tokens = {3}, .finish = FinishReason::kStop}, sse);
  stream.Append(0, Done(3, 0, 3), sse);
  stream.AppendEnd(sse);
  const std::string open =
      R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"tiny",)"
      R"("system_fingerprint":"fp_1","choices":[)";
  EXPECT_EQ(sse,
            open + R"({"index":0,"delta":{"role":"assistant","content":"","refusal":null},)" +
                R"("logprobs":null,"finish_reason":null}],"usage":null})" + "\n\n" + open +
                R"({"index":0,"delta":{"content":"hé"},"logprobs":null,"finish_reason":null}],)" +
                R"("usage":null})" + "\n\n" + open +
                R"({"index":0,"delta":{"content":"!"},"logprobs":null,"finish_reason":null}],)" +
                R"("usage":null})" + "\n\n" + open +
                R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null})" +
                "\n\n" + open +
                R"(],"usage":{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6,)" +
                R"("prompt_tokens_details":{"cached_tokens":0},)" +
                R"("completion_tokens_details":{"reasoning_tokens":0}}})" + "\n\n" +
                "data: [DONE]\n\n");
}

TEST(AnswerStreamTest, TextStreamEchoesAndGoesOnWithTheOffsets) {
  AnswerStream stream(Head("cmpl-1"),
                      {.chat = false, .echo = true, .logprobs = true, .stream = true});
  std::string sse;
  stream.Append(0,
                PromptInfo{.prompt_tokens = 1,
                           .text = "P",
                           .tokens = {'P'},
                           .logprobs = {std::nullopt},
                           .text_offsets = {0}},
                sse);
  EXPECT_THAT(sse, HasSubstr(R"("text":"P","logprobs":{"tokens":["P"],"token_logprobs":[null],)"
                             R"("top_logprobs":[null],"text_offset":[0]})"));
  sse.clear();
  stream.Append(0,
                ChoiceDelta{.text = "a",
                            .tokens = {1},
                            .logprobs = {Logprob("a", -1)},
                            .finish = FinishReason::kLength},
                sse);
  EXPECT_THAT(sse, HasSubstr(R"("text":"a","logprobs":{"tokens":["a"],"token_logprobs":[-1.0],)"
                             R"("top_logprobs":[{"a":-1.0,"z":-2.0}],"text_offset":[1]},)"
                             R"("finish_reason":"length"}]})"));
}

TEST(AnswerStreamTest, AnErrorIsAnEventOfItsOwn) {
  std::string sse;
  AnswerStream(Head("chatcmpl-1"), {})
      .AppendError(ToOpenAiError(absl::UnavailableError("gone\n")), sse);
  EXPECT_EQ(sse,
            "data: {\"error\":{\"message\":\"gone\\n\",\"type\":\"server_error\",\"param\":null,"
            "\"code\":\"service_unavailable\"}}\n\n");
}

}  // namespace
}  // namespace holdfast
