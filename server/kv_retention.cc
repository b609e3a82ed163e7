#include "server/kv_retention.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "config/limits.h"
#include "server/http_status.h"
#include "server/utf8.h"

namespace holdfast {
namespace {

constexpr char kRetainAction[] = "kv.retain";

// {"action": "kv.retain", "ttl_ms": 300000, "priority": 0}, or a list of one.
std::optional<Request::Retain> ReadKvHints(JsonFields& fields) {
  const Json* hints = fields.Find("kv_hints");
  if (hints == nullptr) return std::nullopt;
  if (hints->is_array()) {
    if (hints->size() != 1) {
      fields.Fail("kv_hints", "invalid_value",
                  absl::StrCat("kv_hints must hold one action; got ", hints->size()));
      return std::nullopt;
    }
    hints = &hints->front();
  }
  JsonFields hint(*hints, "kv_hints");
  const std::optional<std::string> action = hint.String("action", kUserStringBytesMax);
  if (!action.has_value()) {
    hint.Missing("action");
  } else if (*action != kRetainAction) {
    hint.Fail("action", "invalid_value",
              absl::StrCat("kv_hints.action must be '", kRetainAction, "'; got '",
                           action->substr(0, 64), "'"));
  }
  Request::Retain retain;
  retain.ttl = absl::Milliseconds(hint.Integer("ttl_ms").value_or(kPinTtlMsDefault));
  retain.priority = hint.Integer32("priority").value_or(0);
  if (absl::Status status = hint.Finish(); !status.ok()) {
    fields.Fail(status);
    return std::nullopt;
  }
  return retain;
}

std::optional<PromptCacheRetention> ReadPromptCacheRetention(JsonFields& fields) {
  const std::optional<std::string> retention =
      fields.String("prompt_cache_retention", kUserStringBytesMax);
  if (!retention.has_value()) return std::nullopt;
  // Earlier clients write it with a hyphen.
  if (*retention == "in_memory" || *retention == "in-memory") {
    return PromptCacheRetention::kInMemory;
  }
  if (*retention == "24h") return PromptCacheRetention::kDay;
  fields.Fail("prompt_cache_retention", "invalid_value",
              absl::StrCat("prompt_cache_retention must be 'in_memory' or '24h'; got '",
                           retention->substr(0, 64), "'"));
  return std::nullopt;
}

}  // namespace

RetentionWish ReadRetention(JsonFields& fields) {
  RetentionWish wish;
  wish.session_id = fields.String("session_id", kUserStringBytesMax).value_or("");
  wish.session_final = fields.Boolean("session_final").value_or(false);
  wish.retain = ReadKvHints(fields);
  wish.prompt_cache_retention = ReadPromptCacheRetention(fields);
  wish.prompt_cache_key = fields.String("prompt_cache_key", kUserStringBytesMax).value_or("");
  return wish;
}

void Settle(RetentionWish wish, std::string_view session, GenerationRequest& request) {
  request.session = wish.session_id.empty() ? std::string(session) : std::move(wish.session_id);
  request.session_final = wish.session_final;
  if (wish.session_final) return;
  request.retain = wish.retain;
  if (!request.retain && wish.prompt_cache_retention) {
    const bool short_term = *wish.prompt_cache_retention == PromptCacheRetention::kInMemory;
    request.retain =
        Request::Retain{.ttl = absl::Milliseconds(short_term ? kPinTtlMsDefault : kPinTtlMsMax)};
  }
  // Without a wish to keep it, a key that many share would end what the one before had kept.
  if (request.retain && request.session.empty()) request.session = std::move(wish.prompt_cache_key);
}

absl::Status CheckSessionHeader(std::string_view session) {
  if (session.size() <= kUserStringBytesMax && IsUtf8(session)) {
    return absl::OkStatus();
  }
  return ParameterError("X-Session-Id", "invalid_value",
                        absl::StrCat("the header X-Session-Id must be UTF-8 of at most ",
                                     kUserStringBytesMax, " bytes"));
}

}  // namespace holdfast
