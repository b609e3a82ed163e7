// A conversation and its tools as Anthropic's wire has them, brought to OpenAI's form, which
// chat_messages.h and tool_choice.h read. Everything is checked here, so that a refusal names the
// place as its sender wrote it.
//
//   system               a message of role system, before all others
//   text                 content, several joined with newlines
//   tool_use             tool_calls
//   tool_result          a message of role tool, before the rest of its own message;
//                        "Error: " before its text where is_error says so
//   thinking             reasoning_content, for templates that show it
//   redacted_thinking    dropped
//   cache_control        of any of these and of tools: see CacheLife
//
// Neighbouring messages of role user are one, and so are those of role assistant, as Anthropic has
// it. Images, documents and whatever else is a block are refused, and so are tools other than
// `custom` ones, which only Anthropic could run.
//
// Claude Code begins its system prompt with a block "x-anthropic-billing-header: ..." for its
// provider's accounts, which may differ from request to request. It is dropped: it tells the model
// nothing, and what follows it would not be found in the cache.
//
// Thread: any; pure.
#pragma once

#include <optional>

#include "absl/time/time.h"
#include "server/json_body.h"

namespace holdfast {

// Before our ids of calls on the wire, where they all have it; taken away when they come back,
// since chat templates take ours alone.
inline constexpr char kToolUseIdPrefix[] = "toolu_";

// For how long `cache_control` asks that the turn's KV be kept: the longest of all marks, wherever
// they stand, since what is kept here is the whole turn. None: not asked for.
using CacheLife = std::optional<absl::Duration>;

// The field `cache_control` of an object, {"type": "ephemeral", "ttl": "5m" | "1h"}.
void ReadCacheControl(JsonFields& fields, CacheLife& life);

// The fields `system` and `messages` (required) into messages of `chat`.
void ReadConversation(JsonFields& fields, CacheLife& life, Json& chat);
// The fields `tools` and `tool_choice` into tools, tool_choice and parallel_tool_calls of `chat`.
void ReadTools(JsonFields& fields, CacheLife& life, Json& chat);

}  // namespace holdfast
