#include "server/openai_response.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "config/base/check.h"
#include "server/utf8.h"

namespace holdfast {
namespace {

const char* FinishName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kToolCalls:
      return "tool_calls";
    case FinishReason::kLength:
      break;
  }
  return "length";
}

const char* ObjectName(const AnswerShape& shape) {
  if (!shape.chat) return "text_completion";
  return shape.stream ? "chat.completion.chunk" : "chat.completion";
}

// The JSON text of a string; what is not UTF-8 becomes U+FFFD.
std::string Quoted(const std::string& text) { return DumpJson(Json(text)); }

// A token as key or text of the older form.
std::string LegacyText(const std::string& bytes) {
  if (IsUtf8(bytes)) return bytes;
  std::string escaped = "bytes:";
  for (const char byte : bytes) {
    absl::StrAppendFormat(&escaped, "\\x%02x", static_cast<uint8_t>(byte));
  }
  return escaped;
}

// -inf has no JSON; OpenAI prints -9999.
double Printable(float logprob) { return logprob < -9999.0f ? -9999.0 : logprob; }

Json ChatToken(const TokenText& token) {
  Json bytes = Json::array();
  for (const char byte : token.bytes) bytes.push_back(static_cast<uint8_t>(byte));
  Json json = Json::object();
  json["token"] = token.bytes;
  json["logprob"] = Printable(token.logprob);
  json["bytes"] = std::move(bytes);
  return json;
}

Json ChatLogprobs(Json content) {
  Json json = Json::object();
  json["content"] = std::move(content);
  json["refusal"] = nullptr;
  return json;
}

}  // namespace

void AppendChatLogprobs(const std::vector<TokenTextWithTop>& tokens, Json& list) {
  for (const TokenTextWithTop& token : tokens) {
    Json json = ChatToken(token.chosen);
    Json top = Json::array();
    for (const TokenText& other : token.top) top.push_back(ChatToken(other));
    json["top_logprobs"] = std::move(top);
    list.push_back(std::move(json));
  }
}

void UsageCount::Add(int32_t prompt, const GenerationEvent& event) {
  OfPrompt& count = prompts_[prompt];
  if (const auto* info = std::get_if<PromptInfo>(&event); info != nullptr) {
    count.prompt_tokens = info->prompt_tokens;
    count.cached_tokens = info->cached_tokens;
  } else if (const auto* delta = std::get_if<ChoiceDelta>(&event); delta != nullptr) {
    count.completion_tokens += static_cast<int64_t>(delta->tokens.size());
  } else if (const auto* done = std::get_if<GenerationDone>(&event); done != nullptr) {
    count = {done->prompt_tokens, done->cached_tokens, done->completion_tokens,
             done->reasoning_tokens, done->kept_for};
  }
}

Json UsageCount::ToJson() const {
  OfPrompt sum;
  for (const OfPrompt& count : prompts_) {
    sum.prompt_tokens += count.prompt_tokens;
    sum.cached_tokens += count.cached_tokens;
    sum.completion_tokens += count.completion_tokens;
    sum.reasoning_tokens += count.reasoning_tokens;
    // Of several prompts the one that is kept least.
    if (count.kept_for) {
      sum.kept_for = std::min(sum.kept_for.value_or(absl::InfiniteDuration()), *count.kept_for);
    }
  }
  Json json = Json::object();
  json["prompt_tokens"] = sum.prompt_tokens;
  json["completion_tokens"] = sum.completion_tokens;
  json["total_tokens"] = sum.prompt_tokens + sum.completion_tokens;
  json["prompt_tokens_details"] = {{"cached_tokens", sum.cached_tokens}};
  json["completion_tokens_details"] = {{"reasoning_tokens", sum.reasoning_tokens}};
  if (sum.kept_for) {
    Json& ours = json["holdfast"] = Json::object();
    ours["pinned"] = *sum.kept_for > absl::ZeroDuration();
    ours["pin_expires_in_ms"] = absl::ToInt64Milliseconds(*sum.kept_for);
  }
  return json;
}

void LegacyLogprobs::Append(const std::string& bytes, Json logprob, Json top, int64_t offset) {
  tokens_.push_back(LegacyText(bytes));
  token_logprobs_.push_back(std::move(logprob));
  top_logprobs_.push_back(std::move(top));
  offsets_.push_back(offset);
}

void LegacyLogprobs::Append(const TokenTextWithTop& token, int64_t offset) {
  Json top = Json::object();
  for (const TokenText& other : token.top) top[LegacyText(other.bytes)] = Printable(other.logprob);
  top[LegacyText(token.chosen.bytes)] = Printable(token.chosen.logprob);
  Append(token.chosen.bytes, Printable(token.chosen.logprob), std::move(top), offset);
}

void LegacyLogprobs::Add(const TokenTextWithTop& token) {
  const std::string& bytes = token.chosen.bytes;
  // A token that goes on with a character lies where that character began, as in a prompt.
  const bool goes_on = !bytes.empty() && NumCharacters(bytes.substr(0, 1)) == 0;
  Append(token, goes_on && offset_ > 0 ? offset_ - 1 : offset_);
  if (!token.hidden) offset_ += NumCharacters(bytes);
}

void LegacyLogprobs::AddPrompt(const PromptInfo& prompt, const AnswerHead& head) {
  CHECK(prompt.tokens.size() == prompt.logprobs.size());
  CHECK(prompt.text_offsets.size() == prompt.logprobs.size());
  for (size_t i = 0; i < prompt.logprobs.size(); ++i) {
    if (prompt.logprobs[i].has_value()) {
      Append(*prompt.logprobs[i], prompt.text_offsets[i]);
    } else {  // the first: nothing comes before it
      Append(head.token_text(prompt.tokens[i]), nullptr, nullptr, prompt.text_offsets[i]);
    }
  }
  offset_ = NumCharacters(prompt.text);
}

Json LegacyLogprobs::Take() {
  Json json = Json::object();
  json["tokens"] = std::exchange(tokens_, Json::array());
  json["token_logprobs"] = std::exchange(token_logprobs_, Json::array());
  json["top_logprobs"] = std::exchange(top_logprobs_, Json::array());
  json["text_offset"] = std::exchange(offsets_, Json::array());
  return json;
}

AnswerBody::AnswerBody(AnswerHead head, const AnswerShape& shape)
    : head_(std::move(head)),
      shape_(shape),
      usage_(shape.num_prompts),
      choices_(static_cast<size_t>(shape.num_prompts) * shape.num_choices) {}

void AnswerBody::Add(int32_t prompt, GenerationEvent&& event) {
  usage_.Add(prompt, event);
  const size_t first = static_cast<size_t>(prompt) * shape_.num_choices;
  if (auto* info = std::get_if<PromptInfo>(&event); info != nullptr && shape_.echo) {
    for (int32_t i = 0; i < shape_.num_choices; ++i) {
      choices_[first + i].text = info->text;
      if (shape_.logprobs) choices_[first + i].legacy_logprobs.AddPrompt(*info, head_);
    }
  } else if (auto* delta = std::get_if<ChoiceDelta>(&event); delta != nullptr) {
    CHECK(delta->choice >= 0 && delta->choice < shape_.num_choices);
    Choice& choice = choices_[first + delta->choice];
    choice.reasoning += delta->reasoning;
    choice.text += delta->text;
    for (auto& call : delta->tool_calls) AppendToolCall(std::move(call), choice.tool_calls);
    if (delta->finish.has_value()) choice.finish = *delta->finish;
    if (shape_.logprobs && shape_.chat) {
      AppendChatLogprobs(delta->logprobs, choice.chat_logprobs);
    } else if (shape_.logprobs) {
      for (const auto& token : delta->logprobs) choice.legacy_logprobs.Add(token);
    }
  }
}

Json AnswerBody::MessageJson(Choice& choice) const {
  Json message = {{"role", "assistant"}, {"content", nullptr}, {"refusal", nullptr}};
  if (!choice.text.empty() || choice.tool_calls.empty()) {
    message["content"] = std::move(choice.text);
  }
  if (!choice.reasoning.empty()) message["reasoning_content"] = std::move(choice.reasoning);
  for (ToolCallDelta& call : choice.tool_calls) {
    Json function = {{"name", std::move(call.name)}, {"arguments", std::move(call.arguments)}};
    message["tool_calls"].push_back(
        {{"id", std::move(call.id)}, {"type", "function"}, {"function", std::move(function)}});
  }
  return message;
}

Json AnswerBody::ChoiceJson(int32_t index, Choice& choice) const {
  Json json = Json::object();
  json["index"] = index;
  if (shape_.chat) {
    json["message"] = MessageJson(choice);
    json["logprobs"] = shape_.logprobs ? ChatLogprobs(std::move(choice.chat_logprobs)) : Json();
  } else {
    json["text"] = std::move(choice.text);
    json["logprobs"] = shape_.logprobs ? choice.legacy_logprobs.Take() : Json();
  }
  json["finish_reason"] = FinishName(choice.finish);
  return json;
}

std::string AnswerBody::Finish() {
  Json json = Json::object();
  json["id"] = head_.id;
  json["object"] = ObjectName(shape_);
  json["created"] = head_.created_unix;
  json["model"] = head_.model;
  if (!head_.system_fingerprint.empty()) json["system_fingerprint"] = head_.system_fingerprint;
  Json choices = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    choices.push_back(ChoiceJson(static_cast<int32_t>(i), choices_[i]));
  }
  json["choices"] = std::move(choices);
  json["usage"] = usage_.ToJson();
  return DumpJson(json);
}

AnswerStream::AnswerStream(AnswerHead head, const AnswerShape& shape)
    : head_(std::move(head)),
      shape_(shape),
      opening_(
          absl::StrCat("data: {\"id\":", Quoted(head_.id), ",\"object\":\"", ObjectName(shape),
                       "\",\"created\":", head_.created_unix, ",\"model\":", Quoted(head_.model),
                       head_.system_fingerprint.empty() ? "" : ",\"system_fingerprint\":",
                       head_.system_fingerprint.empty() ? "" : Quoted(head_.system_fingerprint),
                       ",\"choices\":")),
      usage_(shape.num_prompts),
      legacy_logprobs_(static_cast<size_t>(shape.num_prompts) * shape.num_choices) {}

// `delta` is the JSON of the chat delta, or of the text. Put together by hand: this runs once a
// token, and a tree of JSON values would cost several times the bytes' own price.
void AnswerStream::AppendChunk(int32_t index, absl::string_view delta, const Json& logprobs,
                               absl::string_view finish, std::string& sse) {
  absl::StrAppend(
      &sse, opening_, "[{\"index\":", index, shape_.chat ? ",\"delta\":" : ",\"text\":", delta,
      ",\"logprobs\":", logprobs.is_null() ? "null" : DumpJson(logprobs), ",\"finish_reason\":");
  if (finish.empty()) {
    absl::StrAppend(&sse, "null}]");
  } else {
    absl::StrAppend(&sse, "\"", finish, "\"}]");
  }
  if (shape_.continuous_usage_stats) {
    absl::StrAppend(&sse, ",\"usage\":", DumpJson(usage_.ToJson()));
  } else if (shape_.include_usage) {
    absl::StrAppend(&sse, ",\"usage\":null");
  }
  absl::StrAppend(&sse, "}\n\n");
}

void AnswerStream::AppendPrompt(int32_t prompt, const PromptInfo& info, std::string& sse) {
  for (int32_t i = 0; i < shape_.num_choices; ++i) {
    const int32_t index = prompt * shape_.num_choices + i;
    if (shape_.chat) {
      // Where calls may come, there may be no content at all.
      AppendChunk(index,
                  shape_.tool_calls ? R"({"role":"assistant","content":null,"refusal":null})"
                                    : R"({"role":"assistant","content":"","refusal":null})",
                  Json(), "", sse);
    } else if (shape_.echo) {
      Json logprobs;
      if (shape_.logprobs) {
        legacy_logprobs_[index].AddPrompt(info, head_);
        logprobs = legacy_logprobs_[index].Take();
      }
      AppendChunk(index, Quoted(info.text), logprobs, "", sse);
    }
  }
}

void AnswerStream::AppendDelta(int32_t prompt, const ChoiceDelta& delta, std::string& sse) {
  CHECK(delta.choice >= 0 && delta.choice < shape_.num_choices);
  const int32_t index = prompt * shape_.num_choices + delta.choice;
  Json logprobs;
  if (shape_.logprobs && !delta.logprobs.empty()) {
    if (shape_.chat) {
      Json content = Json::array();
      AppendChatLogprobs(delta.logprobs, content);
      logprobs = ChatLogprobs(std::move(content));
    } else {
      for (const TokenTextWithTop& token : delta.logprobs) legacy_logprobs_[index].Add(token);
      logprobs = legacy_logprobs_[index].Take();
    }
  }
  const char* finish = delta.finish.has_value() ? FinishName(*delta.finish) : "";
  if (!shape_.chat) {
    if (!delta.text.empty() || !logprobs.is_null() || delta.finish.has_value()) {
      AppendChunk(index, Quoted(delta.text), logprobs, finish, sse);
    }
    return;
  }
  if (!delta.reasoning.empty()) {
    AppendChunk(index, absl::StrCat("{\"reasoning_content\":", Quoted(delta.reasoning), "}"),
                Json(), "", sse);
  }
  // Log probabilities of what is thought or becomes a call come beside an empty text.
  if (!delta.text.empty() || !logprobs.is_null()) {
    AppendChunk(index, absl::StrCat("{\"content\":", Quoted(delta.text), "}"), logprobs, "", sse);
  }
  AppendToolCalls(index, delta.tool_calls, sse);
  if (delta.finish.has_value()) AppendChunk(index, "{}", Json(), finish, sse);
}

void AnswerStream::AppendToolCalls(int32_t index, const std::vector<ToolCallDelta>& calls,
                                   std::string& sse) {
  for (const ToolCallDelta& call : calls) {
    std::string json = absl::StrCat("{\"tool_calls\":[{\"index\":", call.index);
    if (!call.name.empty()) {
      absl::StrAppend(&json, ",\"id\":", Quoted(call.id),
                      R"(,"type":"function","function":{"name":)", Quoted(call.name), ",");
    } else {
      absl::StrAppend(&json, ",\"function\":{");
    }
    absl::StrAppend(&json, "\"arguments\":", Quoted(call.arguments), "}}]}");
    AppendChunk(index, json, Json(), "", sse);
  }
}

void AnswerStream::Append(int32_t prompt, GenerationEvent&& event, std::string& sse) {
  usage_.Add(prompt, event);
  if (const auto* info = std::get_if<PromptInfo>(&event); info != nullptr) {
    AppendPrompt(prompt, *info, sse);
  } else if (const auto* delta = std::get_if<ChoiceDelta>(&event); delta != nullptr) {
    AppendDelta(prompt, *delta, sse);
  }
}

void AnswerStream::AppendEnd(std::string& sse) {
  if (shape_.include_usage) {
    absl::StrAppend(&sse, opening_, "[],\"usage\":", DumpJson(usage_.ToJson()), "}\n\n");
  }
  absl::StrAppend(&sse, "data: [DONE]\n\n");
}

void AnswerStream::AppendError(const OpenAiError& error, std::string& sse) const {
  absl::StrAppend(&sse, "data: ", ErrorBody(error), "\n\n");
}

}  // namespace holdfast
