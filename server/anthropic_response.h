// Generation events as Anthropic's answer: one message, or the named events of an SSE stream.
//
//   message_start, ping, { content_block_start, content_block_delta..., content_block_stop }...,
//   message_delta (stop_reason, usage), message_stop
//
// Content is a block of what was thought, where that is to be shown, one of text, unless there is
// none, and a block for each call of a tool, in the order in which they are written. Arguments are
// passed on as they were written. Thinking has an empty signature: nothing here needs one.
//
// A call that was cut short (by max_tokens, a stop sequence or the context's end, which stop_reason
// tells) has no whole input, which the wire has no way to show. A message leaves such a call out,
// so that nobody runs it with half its arguments or none; in a stream it has begun already, and its
// block ends where its input does.
//
// Usage: cache_read_input_tokens were found in the prefix cache; the rest of the prompt is
// cache_creation_input_tokens where the request asked for it to be kept (cache_control), else
// input_tokens. The three make the prompt. `holdfast` tells whether it is kept, as on OpenAI's
// wire.
//
// Thread: one call's answer is made by one thread. Bound: a message holds the answer's text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/answer_writer.h"
#include "server/anthropic_messages.h"
#include "server/generation.h"
#include "server/json_body.h"

namespace holdfast {

struct MessageHead {
  std::string id;  // "msg_..."
  std::string model;
  std::string request_id;  // for errors
  int32_t max_tokens = 0;  // as asked for
  CacheLife cache_life;
  bool shows_thinking = false;
};

// What both forms of an answer keep count of: its usage, and how it ended.
class MessageEnd final {
 public:
  explicit MessageEnd(MessageHead head) : head_(std::move(head)) {}
  void Add(const GenerationEvent& event);

  const MessageHead& head() const { return head_; }
  Json Usage() const;
  void AddStop(Json& to) const;  // stop_reason and stop_sequence

 private:
  const char* StopReason() const;

  const MessageHead head_;
  int64_t prompt_tokens_ = 0, cached_tokens_ = 0, completion_tokens_ = 0;
  int64_t thinking_tokens_ = 0;  // of the completion's
  std::optional<absl::Duration> kept_for_;
  std::optional<FinishReason> finish_;
  std::string stop_string_;
};

class MessageBody final : public AnswerBodyWriter {
 public:
  explicit MessageBody(MessageHead head) : end_(std::move(head)) {}
  void Add(int32_t prompt, GenerationEvent&& event) override;
  std::string Finish() override;

 private:
  MessageEnd end_;
  std::string thinking_, text_;
  std::vector<ToolCallDelta> calls_;  // whole
};

class MessageStream final : public AnswerStreamWriter {
 public:
  explicit MessageStream(MessageHead head) : end_(std::move(head)) {}
  void Append(int32_t prompt, GenerationEvent&& event, std::string& sse) override;
  void AppendEnd(std::string& sse) override;
  void AppendError(const OpenAiError& error, std::string& sse) const override;

 private:
  enum class Block : uint8_t { kNone, kThinking, kText, kCall };  // that is open

  void Begin(std::string& sse);
  void AppendThinking(const std::string& thinking, std::string& sse);
  void AppendText(const std::string& text, std::string& sse);
  void AppendCall(const ToolCallDelta& call, std::string& sse);
  void OpenBlock(Block block, absl::string_view content_block, std::string& sse);
  void CloseBlock(std::string& sse);
  void AppendDelta(absl::string_view type, absl::string_view name, const std::string& text,
                   std::string& sse) const;

  MessageEnd end_;
  bool begun_ = false;
  Block open_ = Block::kNone;
  int32_t num_blocks_ = 0;
};

}  // namespace holdfast
