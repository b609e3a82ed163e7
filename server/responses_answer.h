// Generation events as an answer of OpenAI's Responses wire: one response, or the named events of
// an SSE stream.
//
//   response.created, response.in_progress,
//   { response.output_item.added, ..., response.output_item.done }...,
//   response.completed | response.incomplete
//
// Output is an item of what was thought, one of the answer's text, unless there is none, and one
// for each call of a function, in the order in which they are written. Incomplete is what ended at
// max_output_tokens or at the context's end; its last item is, too.
//
// Thread: one call's answer is made by one thread. Bound: holds the answer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/answer_writer.h"
#include "server/generation.h"
#include "server/json_body.h"

namespace holdfast {

struct ResponseHead {
  std::string id;  // "resp_..."
  int64_t created_unix = 0;
  std::string model;
  Json echo = Json::object();  // of the request (ResponsesCall)
  // Gets the response once it is complete, before the client does. Optional.
  std::function<void(const Json& response)> on_end;
  // It goes wrong after it began to be streamed. Optional.
  std::function<void(const OpenAiError& error)> on_error;
};

// A response as it is before anything is computed, after it failed, and so on.
enum class ResponseStatus : uint8_t {
  kQueued,
  kInProgress,
  kCompleted,
  kIncomplete,
  kFailed,
  kCancelled
};
const char* ResponseStatusName(ResponseStatus status);
Json ResponseJson(const ResponseHead& head, ResponseStatus status, Json output);
// Its `error`, and what else says that it has failed.
void SetFailed(const OpenAiError& error, Json& response);

// What both forms of an answer share. `sse` null: no events are written.
class ResponseOutput final {
 public:
  explicit ResponseOutput(ResponseHead head) : head_(std::move(head)) {}

  void Add(GenerationEvent&& event, std::string* sse);
  Json Finish(std::string* sse);
  void AppendError(const OpenAiError& error, std::string& sse) const;

 private:
  enum class Kind : uint8_t { kNone, kReasoning, kMessage, kCall };

  void Begin(std::string* sse);
  void SendBegin(std::string* sse) const;
  void Open(Kind kind, Json item, std::string* sse);
  void AddText(Kind kind, const std::string& text, Json logprobs, std::string* sse);
  void AddCall(const ToolCallDelta& call, std::string* sse);
  void Close(bool complete, std::string* sse);
  Json PartJson(bool with_text) const;
  Json Place() const;  // item_id and output_index
  void Send(std::string_view type, Json fields, std::string* sse) const;

  const ResponseHead head_;
  bool begun_ = false;
  Kind open_ = Kind::kNone;
  std::string text_;  // of the open item: its text or arguments
  Json logprobs_ = Json::array();
  std::vector<TokenTextWithTop> waiting_logprobs_;  // of tokens whose text has not come yet
  Json output_ = Json::array();
  FinishReason finish_ = FinishReason::kLength;
  int64_t prompt_tokens_ = 0, cached_tokens_ = 0, completion_tokens_ = 0, reasoning_tokens_ = 0;
  mutable int64_t num_events_ = 0;
};

class ResponseBody final : public AnswerBodyWriter {
 public:
  explicit ResponseBody(ResponseHead head) : output_(std::move(head)) {}
  void Add(int32_t, GenerationEvent&& event) override { output_.Add(std::move(event), nullptr); }
  std::string Finish() override { return DumpJson(output_.Finish(nullptr)); }

 private:
  ResponseOutput output_;
};

class ResponseStream final : public AnswerStreamWriter {
 public:
  explicit ResponseStream(ResponseHead head) : output_(std::move(head)) {}
  void Append(int32_t, GenerationEvent&& event, std::string& sse) override {
    output_.Add(std::move(event), &sse);
  }
  void AppendEnd(std::string& sse) override { output_.Finish(&sse); }
  void AppendError(const OpenAiError& error, std::string& sse) const override {
    output_.AppendError(error, sse);
  }

 private:
  ResponseOutput output_;
};

}  // namespace holdfast
