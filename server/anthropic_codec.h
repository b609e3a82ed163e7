// Anthropic's request bodies as checked structs: POST /v1/messages and /v1/messages/count_tokens.
// As on the other wires every parameter is honoured, refused with a 400 that names it, or listed
// here as harmless; an unknown one is refused. null is absent.
//
// Honoured otherwise than one might think:
//   max_tokens      as much of it as the context leaves; an answer that ends there says so
//                   (stop_reason model_context_window_exceeded), as models of the wire's own do
//   thinking        whether the chat template is told to let the model reason (enable_thinking);
//                   off unless asked for. budget_tokens bounds it. A model that does not reason is
//                   asked in vain; what one reasons unasked is not shown
//   effort          of output_config: given to the chat template as reasoning_effort
//   cache_control   anthropic_messages.h: the turn's KV is kept (kv_retention.h) for the session of
//                   the request's headers, else for metadata.user_id
//
// Harmless, checked for type and then dropped: service_tier auto|standard_only, speed standard, and
// context_management where all it wants is to clear earlier thinking, which a template does anyway.
//
// A conversation that ends with the model's own words would have them continued ("prefill"): it is
// refused, as by Anthropic's later models, though its tokens can be counted.
//
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/anthropic_messages.h"
#include "server/generation.h"

namespace holdfast {

// The caller fills in what the body does not know: tenant, wire_id, arrival, sampling.seed.
struct MessagesCall {
  std::string model;  // as asked for, else the served model's name
  bool stream = false;
  bool shows_thinking = false;
  int32_t max_tokens = 0;
  CacheLife cache_life;
  GenerationRequest request;
};

// kInvalidArgument or kNotFound (model), both with the payloads of server/generation.h. `session`:
// of the request's headers.
absl::StatusOr<MessagesCall> DecodeMessages(std::string_view body,
                                            const GenerationService::ModelInfo& info,
                                            std::string_view session = {});

// The same body; max_tokens may be left out.
absl::StatusOr<ChatInput> DecodeCountTokens(std::string_view body,
                                            const GenerationService::ModelInfo& info);

}  // namespace holdfast
