// How a caller asks for the KV of its turn to be kept until the next one, in the spellings of both
// wires, brought to the one form that the scheduler takes.
//
//   session_id, session_headers.h, prompt_cache_key ──► GenerationRequest::session
//   kv_hints kv.retain, prompt_cache_retention ──► GenerationRequest::retain
//   session_final                              ──► neither: nothing is kept, what was kept goes
//
// A session belongs to its tenant: two tenants that name theirs alike have two.
//
// Names: session_id and session_final as NVIDIA Dynamo has them, kv.retain after the KV hints of
// vLLM and SGLang, prompt_cache_* as OpenAI's.
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/generation.h"
#include "server/json_body.h"

namespace holdfast {

// OpenAI's. kDay says at most how long: here as long as anything is kept, kPinTtlMsMax.
enum class PromptCacheRetention : uint8_t { kInMemory, kDay };

struct RetentionWish {
  std::string session_id;
  bool session_final = false;
  std::optional<Request::Retain> retain;                       // of kv.retain
  std::optional<PromptCacheRetention> prompt_cache_retention;  // where kv.retain says nothing
  std::string prompt_cache_key;  // names the session of what is kept, where nothing else does
};

// Of a request's body. Faults go to `fields`; ranges are checked by CheckGenerationRequest.
RetentionWish ReadRetention(JsonFields& fields);

// `session`: of the headers (session_headers.h), where the wish names none; empty: none.
void Settle(RetentionWish wish, std::string_view session, GenerationRequest& request);

// kInvalidArgument: the header's value is too long, or not UTF-8.
absl::Status CheckSessionHeader(std::string_view session);

}  // namespace holdfast
