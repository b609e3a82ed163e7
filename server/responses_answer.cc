#include "server/responses_answer.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "config/base/concat.h"
#include "server/openai_response.h"
#include "server/state_id.h"

namespace holdfast {
const char* ResponseStatusName(ResponseStatus status) {
  static constexpr const char* kNames[] = {"queued",     "in_progress", "completed",
                                           "incomplete", "failed",      "cancelled"};
  return kNames[static_cast<size_t>(status)];
}

Json ResponseJson(const ResponseHead& head, ResponseStatus status, Json output) {
  Json json = Json::object();
  json["id"] = head.id;
  json["object"] = "response";
  json["created_at"] = head.created_unix;
  json["status"] = ResponseStatusName(status);
  json["error"] = nullptr;
  json["incomplete_details"] = nullptr;
  json["model"] = head.model;
  json["output"] = std::move(output);
  json.update(head.echo);
  return json;
}

void SetFailed(const OpenAiError& error, Json& response) {
  response["status"] = ResponseStatusName(ResponseStatus::kFailed);
  const char* code = error.http_status == 429   ? "rate_limit_exceeded"
                     : error.http_status >= 500 ? "server_error"
                                                : "invalid_prompt";
  response["error"] = {{"code", code}, {"message", error.message}};
}

void ResponseOutput::Send(std::string_view type, Json fields, std::string* sse) const {
  if (sse == nullptr) return;
  Json event = {{"type", std::string(type)}, {"sequence_number", num_events_++}};
  event.update(fields);
  absl::StrAppend(sse, "event: ", AbslView(type), "\ndata: ", DumpJson(event), "\n\n");
}

Json ResponseOutput::Place() const {
  return {{"item_id", output_.back()["id"]}, {"output_index", output_.size() - 1}};
}

void ResponseOutput::Begin(std::string* sse) {
  if (std::exchange(begun_, true)) return;
  SendBegin(sse);
}

void ResponseOutput::SendBegin(std::string* sse) const {
  if (sse == nullptr) return;
  const Json response = ResponseJson(head_, ResponseStatus::kInProgress, Json::array());
  Send("response.created", {{"response", response}}, sse);
  Send("response.in_progress", {{"response", response}}, sse);
}

void ResponseOutput::Open(Kind kind, Json item, std::string* sse) {
  Close(true, sse);
  open_ = kind;
  output_.push_back(std::move(item));
  Send("response.output_item.added",
       {{"output_index", output_.size() - 1}, {"item", output_.back()}}, sse);
  if (kind == Kind::kCall) return;
  Json fields = Place();
  fields["content_index"] = 0;
  fields["part"] = PartJson(false);
  Send("response.content_part.added", std::move(fields), sse);
}

Json ResponseOutput::PartJson(bool with_text) const {
  const std::string text = with_text ? text_ : "";
  if (open_ == Kind::kReasoning) return {{"type", "reasoning_text"}, {"text", text}};
  return {{"type", "output_text"},
          {"text", text},
          {"annotations", Json::array()},
          {"logprobs", with_text ? logprobs_ : Json::array()}};
}

void ResponseOutput::AddText(Kind kind, const std::string& text, Json logprobs, std::string* sse) {
  const bool reasons = kind == Kind::kReasoning;
  if (open_ != kind) {
    Json item = reasons ? Json{{"id", MakeStateId("rs_")},
                               {"type", "reasoning"},
                               {"summary", Json::array()},
                               {"content", Json::array()},
                               {"status", "in_progress"}}
                        : Json{{"id", MakeStateId("msg_")},
                               {"type", "message"},
                               {"role", "assistant"},
                               {"content", Json::array()},
                               {"status", "in_progress"}};
    Open(kind, std::move(item), sse);
  }
  text_ += text;
  if (sse != nullptr) {
    Json fields = Place();
    fields["content_index"] = 0;
    fields["delta"] = text;
    if (!reasons) fields["logprobs"] = logprobs;
    Send(reasons ? "response.reasoning_text.delta" : "response.output_text.delta",
         std::move(fields), sse);
  }
  for (Json& token : logprobs) logprobs_.push_back(std::move(token));
}

void ResponseOutput::AddCall(const ToolCallDelta& call, std::string* sse) {
  if (!call.name.empty()) {
    Open(Kind::kCall,
         {{"id", MakeStateId("fc_")},
          {"type", "function_call"},
          {"call_id", call.id},
          {"name", call.name},
          {"arguments", ""},
          {"status", "in_progress"}},
         sse);
  }
  if (call.arguments.empty() || open_ != Kind::kCall) return;
  text_ += call.arguments;
  if (sse == nullptr) return;
  Json fields = Place();
  fields["delta"] = call.arguments;
  Send("response.function_call_arguments.delta", std::move(fields), sse);
}

void ResponseOutput::Close(bool complete, std::string* sse) {
  if (open_ == Kind::kNone) return;
  Json& item = output_.back();
  Json fields = Place();
  if (open_ == Kind::kCall) {
    item["arguments"] = text_;
    fields["name"] = item["name"];
    fields["arguments"] = text_;
    Send("response.function_call_arguments.done", std::move(fields), sse);
  } else {
    const bool reasons = open_ == Kind::kReasoning;
    fields["content_index"] = 0;
    Json done = fields;
    done["text"] = text_;
    if (!reasons) done["logprobs"] = logprobs_;
    Send(reasons ? "response.reasoning_text.done" : "response.output_text.done", std::move(done),
         sse);
    fields["part"] = PartJson(true);
    item["content"].push_back(fields["part"]);
    Send("response.content_part.done", std::move(fields), sse);
  }
  item["status"] = complete ? "completed" : "incomplete";
  Send("response.output_item.done", {{"output_index", output_.size() - 1}, {"item", item}}, sse);
  open_ = Kind::kNone;
  text_.clear();
  logprobs_ = Json::array();
}

void ResponseOutput::Add(GenerationEvent&& event, std::string* sse) {
  if (const auto* done = std::get_if<GenerationDone>(&event); done != nullptr) {
    prompt_tokens_ = done->prompt_tokens;
    cached_tokens_ = done->cached_tokens;
    completion_tokens_ = done->completion_tokens;
    reasoning_tokens_ = done->reasoning_tokens;
    return;
  }
  Begin(sse);
  const auto* delta = std::get_if<ChoiceDelta>(&event);
  if (delta == nullptr) return;
  if (!delta->reasoning.empty()) AddText(Kind::kReasoning, delta->reasoning, Json::array(), sse);
  waiting_logprobs_.insert(waiting_logprobs_.end(), delta->logprobs.begin(), delta->logprobs.end());
  if (!delta->text.empty()) {
    Json logprobs = Json::array();
    AppendChatLogprobs(std::exchange(waiting_logprobs_, {}), logprobs);
    AddText(Kind::kMessage, delta->text, std::move(logprobs), sse);
  }
  for (const ToolCallDelta& call : delta->tool_calls) AddCall(call, sse);
  if (delta->finish.has_value()) finish_ = *delta->finish;
}

Json ResponseOutput::Finish(std::string* sse) {
  Begin(sse);
  const bool complete = finish_ != FinishReason::kLength;
  Close(complete, sse);
  const auto status = complete ? ResponseStatus::kCompleted : ResponseStatus::kIncomplete;
  Json response = ResponseJson(head_, status, output_);
  if (!complete) response["incomplete_details"] = {{"reason", "max_output_tokens"}};
  response["usage"] = {
      {"input_tokens", prompt_tokens_},
      {"input_tokens_details", {{"cached_tokens", cached_tokens_}, {"cache_write_tokens", 0}}},
      {"output_tokens", completion_tokens_},
      {"output_tokens_details", {{"reasoning_tokens", reasoning_tokens_}}},
      {"total_tokens", prompt_tokens_ + completion_tokens_}};
  if (head_.on_end) head_.on_end(response);
  Send(complete ? "response.completed" : "response.incomplete", {{"response", response}}, sse);
  return response;
}

void ResponseOutput::AppendError(const OpenAiError& error, std::string& sse) const {
  if (head_.on_error) head_.on_error(error);
  if (!begun_) SendBegin(&sse);
  Send("error",
       {{"code", error.code.empty() ? Json() : Json(error.code)},
        {"message", error.message},
        {"param", error.param.empty() ? Json() : Json(error.param)}},
       &sse);
}

}  // namespace holdfast
