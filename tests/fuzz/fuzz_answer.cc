// Any bytes as a generation's output, written as an answer: every SSE event is one line of JSON
// whatever the text holds, the stream's pieces make the text of the answer that is given whole, and
// a token's bytes arrive as they were.
//
// Input: a byte of flags, then pieces, each led by a byte (choice, whether it has a token) and a
// length byte.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/base/check.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/openai_response.h"
#include "server/utf8.h"

namespace holdfast {
namespace {

constexpr int32_t kChoices = 2;
using Texts = std::array<std::string, kChoices>;

struct Piece {
  int32_t choice = 0;
  bool has_token = false;
  std::string text;
};

struct Input {
  AnswerShape shape;
  std::vector<Piece> pieces;
  bool all_utf8 = true;
};

Input Read(std::string_view data) {
  Input input;
  const auto take = [&] {
    const uint8_t byte = data.empty() ? 0 : static_cast<uint8_t>(data.front());
    data.remove_prefix(data.empty() ? 0 : 1);
    return byte;
  };
  const uint8_t flags = take();
  input.shape = {.chat = (flags & 1) != 0,
                 .num_choices = kChoices,
                 .echo = (flags & 1) == 0 && (flags & 2) != 0,
                 .logprobs = (flags & 4) != 0,
                 .stream = true,
                 .include_usage = (flags & 8) != 0,
                 .continuous_usage_stats = (flags & 16) != 0};
  while (!data.empty()) {
    const uint8_t kind = take();
    const size_t size = take();
    Piece& piece = input.pieces.emplace_back();
    piece.choice = kind % kChoices;
    piece.has_token = (kind & 2) != 0;
    piece.text = std::string(data.substr(0, size));
    data.remove_prefix(piece.text.size());
    input.all_utf8 = input.all_utf8 && IsUtf8(piece.text);
  }
  return input;
}

TokenTextWithTop Token(const std::string& bytes) {
  return {.chosen = {.token = 1, .bytes = bytes, .logprob = -0.5f},
          .top = {{.token = 1, .bytes = bytes, .logprob = -0.5f},
                  {.token = 2, .bytes = "z" + bytes, .logprob = -2.0f}}};
}

// Gives each event of the answer to `take`.
template <typename Take>
void ForEachEvent(const Input& input, const Take& take) {
  const std::string echo = input.pieces.empty() ? "" : input.pieces.front().text;
  PromptInfo prompt{.prompt_tokens = 1, .text = echo, .tokens = {1}, .logprobs = {std::nullopt}};
  prompt.text_offsets = {0};
  take(std::move(prompt));
  for (const Piece& piece : input.pieces) {
    ChoiceDelta delta{.choice = piece.choice, .text = piece.text};
    if (piece.has_token) {
      delta.tokens = {1};
      delta.logprobs = {Token(piece.text)};
    }
    take(std::move(delta));
  }
  for (int32_t choice = 0; choice < kChoices; ++choice) {
    take(ChoiceDelta{.choice = choice, .finish = FinishReason::kStop});
  }
  take(GenerationDone{.prompt_tokens = 1, .completion_tokens = 1});
}

AnswerHead Head(const Input& input) {
  // Names that come from outside are quoted, too.
  return {.id = input.pieces.empty() ? "id" : input.pieces.back().text,
          .created_unix = 5,
          .model = "tiny",
          .token_text = [](TokenId) { return std::string("\xff\n"); }};
}

// The payloads of a whole SSE stream.
std::vector<std::string_view> Events(std::string_view sse) {
  std::vector<std::string_view> events;
  while (!sse.empty()) {
    CHECK(sse.starts_with("data: "));
    const size_t end = sse.find("\n\n");
    CHECK(end != sse.npos);
    const std::string_view payload = sse.substr(6, end - 6);
    CHECK(payload.find_first_of("\r\n") == payload.npos);
    events.push_back(payload);
    sse.remove_prefix(end + 2);
  }
  return events;
}

Json Parsed(std::string_view text) {
  absl::StatusOr<Json> json = ParseJson({text.data(), text.size()});
  CHECK(json.ok());
  return *std::move(json);
}

// Text and, of chat logprobs, bytes that a choice of an answer or of a chunk adds.
void AddChoice(const Json& choice, bool chat, Texts& texts, Texts& bytes) {
  const auto index = choice.at("index").get<size_t>();
  CHECK(index < kChoices);
  if (!chat) {
    texts[index] += choice.at("text").get<std::string>();
    return;
  }
  const Json& message = choice.contains("delta") ? choice.at("delta") : choice.at("message");
  if (message.contains("content")) texts[index] += message.at("content").get<std::string>();
  if (choice.at("logprobs").is_null()) return;
  for (const Json& token : choice.at("logprobs").at("content")) {
    for (const Json& byte : token.at("bytes")) {
      bytes[index] += static_cast<char>(byte.get<uint8_t>());
    }
  }
}

void Run(std::string_view data) {
  const Input input = Read(data);
  const bool chat = input.shape.chat;

  AnswerStream stream(Head(input), input.shape);
  std::string sse;
  ForEachEvent(input, [&](GenerationEvent event) { stream.Append(0, std::move(event), sse); });
  stream.AppendEnd(sse);
  std::vector<std::string_view> events = Events(sse);
  CHECK(!events.empty() && events.back() == "[DONE]");
  events.pop_back();
  Texts streamed, streamed_bytes;
  for (const std::string_view event : events) {
    const Json chunk = Parsed(event);
    for (const Json& choice : chunk.at("choices")) {
      AddChoice(choice, chat, streamed, streamed_bytes);
    }
  }

  AnswerBody body(Head(input), input.shape);
  ForEachEvent(input, [&](GenerationEvent event) { body.Add(0, std::move(event)); });
  Texts whole, whole_bytes;
  const Json answer = Parsed(body.Finish());
  for (const Json& choice : answer.at("choices")) {
    AddChoice(choice, chat, whole, whole_bytes);
  }
  CHECK(streamed_bytes == whole_bytes);
  if (input.all_utf8) CHECK(streamed == whole);  // else U+FFFD may be put in at other places

  Texts given, given_bytes;
  if (input.shape.echo && !input.pieces.empty()) given.fill(input.pieces.front().text);
  for (const Piece& piece : input.pieces) {
    given[piece.choice] += piece.text;
    if (chat && input.shape.logprobs && piece.has_token) given_bytes[piece.choice] += piece.text;
  }
  CHECK(streamed_bytes == given_bytes);
  if (input.all_utf8) CHECK(streamed == given);

  std::string error;
  stream.AppendError(HttpError(500, "code", {data.data(), data.size()}), error);
  CHECK(Events(error).size() == 1);
  Parsed(Events(error).front());
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  holdfast::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
