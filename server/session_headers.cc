#include "server/session_headers.h"

#include "server/kv_retention.h"

namespace holdfast {

std::string_view SessionOfHeaders(absl::FunctionRef<std::string_view(const char* name)> value_of) {
  constexpr const char* kForeign[] = {
      "x-claude-code-session-id", "session-id",           "session_id",
      "x-session-affinity",       "x-litellm-session-id", "x-openwebui-chat-id"};
  if (const std::string_view own = value_of("x-session-id"); !own.empty()) return own;
  for (const char* name : kForeign) {
    const std::string_view value = value_of(name);
    if (!value.empty() && CheckSessionHeader(value).ok()) return value;
  }
  return {};
}

}  // namespace holdfast
