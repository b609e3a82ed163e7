// The session that a request's headers name: X-Session-Id, which we document, or else what agents
// and the gateways before them send of their own accord, so that their turns are known as one
// program's without a setting. A body's session_id wins over all of them.
//
//   x-session-id              LLM Gateway and others; ours
//   x-claude-code-session-id  Claude Code, on every request to its provider
//   session-id, session_id    OpenAI Codex (codex-rs/codex-api/src/requests/headers.rs; with the
//                             underscore until 2026)
//   x-session-affinity        opencode
//   x-litellm-session-id      LiteLLM (docs.litellm.ai, "Request Headers")
//   x-openwebui-chat-id       Open WebUI with ENABLE_FORWARD_USER_INFO_HEADERS
//
// Thread: any; pure.
#pragma once

#include <string_view>

#include "absl/functional/function_ref.h"

namespace holdfast {

// `value_of`: of the header of that name, in lower case; empty: there is none. A foreign header
// that could be no session's name (CheckSessionHeader) counts as none, since its sender does not
// mean us; ours is given back as it is.
std::string_view SessionOfHeaders(absl::FunctionRef<std::string_view(const char* name)> value_of);

}  // namespace holdfast
