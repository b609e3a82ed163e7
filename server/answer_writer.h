// How the events of one generation call become an answer on an HTTP wire: one body, or server-sent
// events. Each wire has both (openai_response.h, anthropic_response.h); http_call.h reads the
// events, of all prompts in any interleaving, and does not know which wire it is.
//
// Thread: one call's answer is made by one thread.
#pragma once

#include <cstdint>
#include <string>

#include "server/generation.h"
#include "server/http_status.h"

namespace holdfast {

class AnswerBodyWriter {
 public:
  virtual ~AnswerBodyWriter() = default;
  virtual void Add(int32_t prompt, GenerationEvent&& event) = 0;
  virtual std::string Finish() = 0;  // once, after GenerationDone of every prompt
};

// Each call appends whole events to `sse`.
class AnswerStreamWriter {
 public:
  virtual ~AnswerStreamWriter() = default;
  virtual void Append(int32_t prompt, GenerationEvent&& event, std::string& sse) = 0;
  virtual void AppendEnd(std::string& sse) = 0;  // once, after GenerationDone of every prompt
  // In place of the end. What was streamed before stays valid; the client sees why it stops.
  virtual void AppendError(const OpenAiError& error, std::string& sse) const = 0;
};

}  // namespace holdfast
