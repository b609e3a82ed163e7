#include "server/anthropic_response.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/anthropic_error.h"

namespace holdfast {
namespace {

// The JSON text of a string; what is not UTF-8 becomes U+FFFD.
std::string Quoted(const std::string& text) { return DumpJson(Json(text)); }

// Looked at as a text: as a value it might be nested deeper than we read.
bool IsWholeObject(const std::string& arguments) {
  const size_t begin = arguments.find_first_not_of(" \t\r\n");
  const bool is_object = begin != arguments.npos && arguments[begin] == '{';
  // The library takes a zero byte for the end of the text.
  return is_object && arguments.find('\0') == arguments.npos && Json::accept(arguments);
}

std::string ToolUse(const ToolCallDelta& call, absl::string_view input) {
  return absl::StrCat(R"({"type":"tool_use","id":)",
                      Quoted(absl::StrCat(kToolUseIdPrefix, call.id)),
                      ",\"name\":", Quoted(call.name), ",\"input\":", input, "}");
}

void AppendEvent(absl::string_view name, absl::string_view fields, std::string& sse) {
  absl::StrAppend(&sse, "event: ", name, "\ndata: {\"type\":\"", name, "\"", fields, "}\n\n");
}

Json MessageJson(const MessageHead& head) {
  return {{"id", head.id}, {"type", "message"}, {"role", "assistant"}, {"model", head.model}};
}

}  // namespace

void MessageEnd::Add(const GenerationEvent& event) {
  if (const auto* info = std::get_if<PromptInfo>(&event); info != nullptr) {
    prompt_tokens_ = info->prompt_tokens;
    cached_tokens_ = info->cached_tokens;
  } else if (const auto* delta = std::get_if<ChoiceDelta>(&event); delta != nullptr) {
    if (delta->finish.has_value()) {
      finish_ = delta->finish;
      stop_string_ = delta->stop_string;
    }
  } else if (const auto* done = std::get_if<GenerationDone>(&event); done != nullptr) {
    prompt_tokens_ = done->prompt_tokens;
    cached_tokens_ = done->cached_tokens;
    completion_tokens_ = done->completion_tokens;
    thinking_tokens_ = done->reasoning_tokens;
    kept_for_ = done->kept_for;
  }
}

Json MessageEnd::Usage() const {
  const int64_t computed = prompt_tokens_ - cached_tokens_;
  const CacheLife& life = head_.cache_life;
  const int64_t created = life ? computed : 0;
  Json json = Json::object();
  json["input_tokens"] = computed - created;
  json["cache_creation_input_tokens"] = created;
  json["cache_read_input_tokens"] = cached_tokens_;
  json["cache_creation"] = {{"ephemeral_5m_input_tokens", life == absl::Minutes(5) ? created : 0},
                            {"ephemeral_1h_input_tokens", life == absl::Hours(1) ? created : 0}};
  json["output_tokens"] = completion_tokens_;
  json["output_tokens_details"] = {{"thinking_tokens", thinking_tokens_}};
  json["service_tier"] = "standard";
  if (kept_for_) {
    json["holdfast"] = {{"pinned", *kept_for_ > absl::ZeroDuration()},
                        {"pin_expires_in_ms", absl::ToInt64Milliseconds(*kept_for_)}};
  }
  return json;
}

const char* MessageEnd::StopReason() const {
  switch (finish_.value_or(FinishReason::kLength)) {
    case FinishReason::kStop:
      return stop_string_.empty() ? "end_turn" : "stop_sequence";
    case FinishReason::kToolCalls:
      return "tool_use";
    case FinishReason::kLength:
      break;
  }
  return completion_tokens_ < head_.max_tokens ? "model_context_window_exceeded" : "max_tokens";
}

void MessageEnd::AddStop(Json& to) const {
  to["stop_reason"] = StopReason();
  to["stop_sequence"] = stop_string_.empty() ? Json() : Json(stop_string_);
}

void MessageBody::Add(int32_t, GenerationEvent&& event) {
  end_.Add(event);
  auto* delta = std::get_if<ChoiceDelta>(&event);
  if (delta == nullptr) return;
  thinking_ += delta->reasoning;
  text_ += delta->text;
  for (ToolCallDelta& call : delta->tool_calls) AppendToolCall(std::move(call), calls_);
}

// Put together by hand, since the input of a call is text that stays as it is.
std::string MessageBody::Finish() {
  std::string content;
  if (!thinking_.empty() && end_.head().shows_thinking) {
    absl::StrAppend(&content, R"({"type":"thinking","thinking":)", Quoted(thinking_),
                    R"(,"signature":""})");
  }
  if (!text_.empty()) {
    absl::StrAppend(&content, content.empty() ? "" : ",", R"({"type":"text","text":)",
                    Quoted(text_), "}");
  }
  for (const ToolCallDelta& call : calls_) {
    if (!IsWholeObject(call.arguments)) continue;
    absl::StrAppend(&content, content.empty() ? "" : ",", ToolUse(call, call.arguments));
  }
  std::string begin = DumpJson(MessageJson(end_.head()));
  begin.pop_back();
  Json rest = Json::object();
  end_.AddStop(rest);
  rest["usage"] = end_.Usage();
  return absl::StrCat(begin, ",\"content\":[", content, "],", DumpJson(rest).substr(1));
}

void MessageStream::Append(int32_t, GenerationEvent&& event, std::string& sse) {
  end_.Add(event);
  if (std::holds_alternative<GenerationDone>(event)) return;
  Begin(sse);
  const auto* delta = std::get_if<ChoiceDelta>(&event);
  if (delta == nullptr) return;
  if (!delta->reasoning.empty() && end_.head().shows_thinking) {
    AppendThinking(delta->reasoning, sse);
  }
  if (!delta->text.empty()) AppendText(delta->text, sse);
  for (const ToolCallDelta& call : delta->tool_calls) AppendCall(call, sse);
  if (delta->finish.has_value()) CloseBlock(sse);
}

void MessageStream::Begin(std::string& sse) {
  if (std::exchange(begun_, true)) return;
  Json message = MessageJson(end_.head());
  message["content"] = Json::array();
  message["stop_reason"] = nullptr;
  message["stop_sequence"] = nullptr;
  message["usage"] = end_.Usage();
  AppendEvent("message_start", absl::StrCat(",\"message\":", DumpJson(message)), sse);
  AppendEvent("ping", "", sse);
}

void MessageStream::OpenBlock(Block block, absl::string_view content_block, std::string& sse) {
  CloseBlock(sse);
  open_ = block;
  AppendEvent("content_block_start",
              absl::StrCat(",\"index\":", num_blocks_++, ",\"content_block\":", content_block),
              sse);
}

void MessageStream::CloseBlock(std::string& sse) {
  if (std::exchange(open_, Block::kNone) == Block::kNone) return;
  AppendEvent("content_block_stop", absl::StrCat(",\"index\":", num_blocks_ - 1), sse);
}

void MessageStream::AppendDelta(absl::string_view type, absl::string_view name,
                                const std::string& text, std::string& sse) const {
  AppendEvent("content_block_delta",
              absl::StrCat(",\"index\":", num_blocks_ - 1, ",\"delta\":{\"type\":\"", type, "\",\"",
                           name, "\":", Quoted(text), "}"),
              sse);
}

void MessageStream::AppendThinking(const std::string& thinking, std::string& sse) {
  if (open_ != Block::kThinking) {
    OpenBlock(Block::kThinking, R"({"type":"thinking","thinking":"","signature":""})", sse);
  }
  AppendDelta("thinking_delta", "thinking", thinking, sse);
}

void MessageStream::AppendText(const std::string& text, std::string& sse) {
  if (open_ != Block::kText) OpenBlock(Block::kText, R"({"type":"text","text":""})", sse);
  AppendDelta("text_delta", "text", text, sse);
}

void MessageStream::AppendCall(const ToolCallDelta& call, std::string& sse) {
  if (!call.name.empty()) OpenBlock(Block::kCall, ToolUse(call, "{}"), sse);
  if (!call.arguments.empty()) {
    AppendDelta("input_json_delta", "partial_json", call.arguments, sse);
  }
}

void MessageStream::AppendEnd(std::string& sse) {
  Begin(sse);
  CloseBlock(sse);
  Json delta = Json::object();
  end_.AddStop(delta);
  AppendEvent("message_delta",
              absl::StrCat(",\"delta\":", DumpJson(delta), ",\"usage\":", DumpJson(end_.Usage())),
              sse);
  AppendEvent("message_stop", "", sse);
}

void MessageStream::AppendError(const OpenAiError& error, std::string& sse) const {
  absl::StrAppend(&sse, "event: error\ndata: ", AnthropicErrorBody(error, end_.head().request_id),
                  "\n\n");
}

}  // namespace holdfast
