#include "server/kv_retention.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "server/openai_codec.h"
#include "server/openai_response.h"
#include "server/session_headers.h"

namespace holdfast {
namespace {

GenerationService::ModelInfo Model() {
  return {.name = "tiny", .context_tokens = 100, .vocab_size = 256, .has_chat_template = true};
}

absl::StatusOr<GenerationRequest> Decoded(const std::string& fields, bool chat = true,
                                          std::string_view header = {}) {
  const std::string prompt =
      chat ? R"("messages":[{"role":"user","content":"x"}])" : R"("prompt":"x")";
  const std::string body = absl::StrCat("{", prompt, fields.empty() ? "" : ",", fields, "}");
  absl::StatusOr<GenerationCall> call =
      chat ? DecodeChatCompletion(body, Model(), header) : DecodeCompletion(body, Model(), header);
  if (!call.ok()) return call.status();
  return std::move(call->requests.front());
}

std::string RefusedParam(const std::string& fields) {
  std::string refused[2];
  for (const bool chat : {false, true}) {
    const auto request = Decoded(fields, chat);
    if (request.ok()) continue;
    EXPECT_TRUE(absl::IsInvalidArgument(request.status())) << request.status();
    refused[chat] = std::string(request.status().GetPayload(kErrorParamUrl).value_or(absl::Cord()));
  }
  EXPECT_EQ(refused[0], refused[1]) << "both endpoints refuse alike";
  return refused[1];
}

TEST(KvRetentionTest, ASessionIsNamedByTheBodyOrElseByTheHeader) {
  EXPECT_EQ(Decoded("")->session, "");
  EXPECT_EQ(Decoded(R"("session_id":"a")")->session, "a");
  EXPECT_EQ(Decoded(R"("session_id":"a")", true, "h")->session, "a");
  EXPECT_EQ(Decoded("", true, "h")->session, "h");
  EXPECT_EQ(Decoded("", false, "h")->session, "h");
  EXPECT_EQ(Decoded(R"("session_id":"")", false, "h")->session, "h");
  EXPECT_FALSE(Decoded(R"("session_id":"a")")->retain.has_value());
}

TEST(SessionHeadersTest, OurHeaderWinsOverThoseOfKnownAgentsAndTheirsNeedToFit) {
  std::map<std::string, std::string> headers;
  const auto session = [&headers] {
    return std::string(SessionOfHeaders([&headers](const char* name) -> std::string_view {
      const auto found = headers.find(name);
      return found == headers.end() ? std::string_view() : found->second;
    }));
  };
  EXPECT_EQ(session(), "");
  headers["x-openwebui-chat-id"] = "chat";
  EXPECT_EQ(session(), "chat");
  headers["x-litellm-session-id"] = "litellm";
  EXPECT_EQ(session(), "litellm");
  headers["x-session-affinity"] = "opencode";
  EXPECT_EQ(session(), "opencode");
  headers["session_id"] = "codex before";
  EXPECT_EQ(session(), "codex before");
  headers["session-id"] = "codex";
  EXPECT_EQ(session(), "codex");
  headers["x-claude-code-session-id"] = "claude";
  EXPECT_EQ(session(), "claude");
  // Whoever sends these does not mean us: no reason to refuse.
  for (const std::string& no_session :
       {std::string(kUserStringBytesMax + 1, 's'), std::string("\xff")}) {
    headers["x-claude-code-session-id"] = no_session;
    EXPECT_EQ(session(), "codex");
  }
  headers["x-session-id"] = "ours";
  EXPECT_EQ(session(), "ours");
  headers["x-session-id"] = "\xff";
  EXPECT_EQ(session(), "\xff") << "to be refused by name";
}

TEST(KvRetentionTest, KvRetainComesAsAnObjectOrAListOfOne) {
  for (const char* hints :
       {R"("kv_hints":{"action":"kv.retain","ttl_ms":60000,"priority":-2})",
        R"("kv_hints":[{"action":"kv.retain","ttl_ms":60000,"priority":-2}])"}) {
    for (const bool chat : {false, true}) {
      const auto request = Decoded(hints, chat);
      ASSERT_TRUE(request.ok()) << request.status();
      ASSERT_TRUE(request->retain.has_value());
      EXPECT_EQ(request->retain->ttl, absl::Minutes(1));
      EXPECT_EQ(request->retain->priority, -2);
      EXPECT_EQ(request->session, "") << "then it is kept under the request's id";
    }
  }
  EXPECT_EQ(Decoded(R"("kv_hints":{"action":"kv.retain"})")->retain->ttl,
            absl::Milliseconds(kPinTtlMsDefault));
}

TEST(KvRetentionTest, WhatIsNotUnderstoodIsRefusedByName) {
  struct Case {
    const char* fields;
    const char* refused;  // empty: taken
  };
  const Case cases[] = {
      {R"("kv_hints":null)", ""},
      {R"("kv_hints":"kv.retain")", "kv_hints"},
      {R"("kv_hints":[])", "kv_hints"},
      {R"("kv_hints":[{"action":"kv.retain"},{"action":"kv.retain"}])", "kv_hints"},
      {R"("kv_hints":{})", "kv_hints.action"},
      {R"("kv_hints":{"ttl_ms":5})", "kv_hints.action"},
      {R"("kv_hints":{"action":"kv.prefetch"})", "kv_hints.action"},
      {R"("kv_hints":{"action":7})", "kv_hints.action"},
      {R"("kv_hints":{"action":"kv.retain","ttl":"5m"})", "kv_hints.ttl"},
      {R"("kv_hints":{"action":"kv.retain","ttl_ms":"5"})", "kv_hints.ttl_ms"},
      {R"("kv_hints":{"action":"kv.retain","ttl_ms":1.5})", "kv_hints.ttl_ms"},
      {R"("kv_hints":{"action":"kv.retain","ttl_ms":0})", "kv_hints.ttl_ms"},
      {R"("kv_hints":{"action":"kv.retain","ttl_ms":-1})", "kv_hints.ttl_ms"},
      {R"("kv_hints":{"action":"kv.retain","ttl_ms":1})", ""},
      {R"("kv_hints":{"action":"kv.retain","ttl_ms":3600000})", ""},
      {R"("kv_hints":{"action":"kv.retain","ttl_ms":3600001})", "kv_hints.ttl_ms"},
      {R"("kv_hints":{"action":"kv.retain","ttl_ms":9223372036854775807})", "kv_hints.ttl_ms"},
      {R"("kv_hints":{"action":"kv.retain","priority":3000000000})", "kv_hints.priority"},
      {R"("prompt_cache_retention":"in_memory")", ""},
      {R"("prompt_cache_retention":"24h")", ""},
      {R"("prompt_cache_retention":"48h")", "prompt_cache_retention"},
      {R"("prompt_cache_retention":24)", "prompt_cache_retention"},
      {R"("prompt_cache_key":1)", "prompt_cache_key"},
      {R"("session_id":7)", "session_id"},
      {R"("session_final":"yes")", "session_final"},
      {R"("session_final":true)", "session_final"},  // of which session?
      {R"("session_final":true,"session_id":"a")", ""},
      {R"("session_final":false)", ""},
  };
  for (const Case& c : cases) EXPECT_EQ(RefusedParam(c.fields), c.refused) << c.fields;
  const std::string fits(kUserStringBytesMax, 's'), too_long(kUserStringBytesMax + 1, 's');
  EXPECT_EQ(RefusedParam(absl::StrCat(R"("session_id":")", fits, "\"")), "");
  EXPECT_EQ(RefusedParam(absl::StrCat(R"("session_id":")", too_long, "\"")), "session_id");
  EXPECT_EQ(RefusedParam(absl::StrCat(R"("prompt_cache_key":")", too_long, "\"")),
            "prompt_cache_key");
}

TEST(KvRetentionTest, PromptCacheRetentionIsABoundedTimeUnlessAHintSaysMore) {
  EXPECT_EQ(Decoded(R"("prompt_cache_retention":"in_memory")")->retain->ttl, absl::Minutes(5));
  EXPECT_EQ(Decoded(R"("prompt_cache_retention":"24h")")->retain->ttl,
            absl::Milliseconds(kPinTtlMsMax));
  EXPECT_EQ(Decoded(R"("prompt_cache_retention":"24h",
                       "kv_hints":{"action":"kv.retain","ttl_ms":7})")
                ->retain->ttl,
            absl::Milliseconds(7));
}

TEST(KvRetentionTest, APromptCacheKeyNamesOnlyWhatIsKept) {
  EXPECT_EQ(Decoded(R"("prompt_cache_key":"k")")->session, "");
  EXPECT_EQ(Decoded(R"("prompt_cache_key":"k","prompt_cache_retention":"24h")")->session, "k");
  EXPECT_EQ(Decoded(R"("prompt_cache_key":"k","kv_hints":{"action":"kv.retain"},
                       "session_id":"s")")
                ->session,
            "s");
}

TEST(KvRetentionTest, AFinalTurnKeepsNothingWhateverElseIsAsked) {
  const auto request = Decoded(R"("session_id":"s","session_final":true,
      "prompt_cache_retention":"24h","kv_hints":{"action":"kv.retain"})");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_TRUE(request->session_final);
  EXPECT_FALSE(request->retain.has_value());
}

TEST(KvRetentionTest, AHeaderIsTextOfBoundedLength) {
  EXPECT_TRUE(CheckSessionHeader("").ok());
  EXPECT_TRUE(CheckSessionHeader(std::string(kUserStringBytesMax, 's')).ok());
  EXPECT_FALSE(CheckSessionHeader(std::string(kUserStringBytesMax + 1, 's')).ok());
  EXPECT_FALSE(CheckSessionHeader("\xff").ok());
}

TEST(KvRetentionTest, UsageSaysWhatWasKeptWhereItWasAskedFor) {
  UsageCount usage(2);
  usage.Add(0, GenerationDone{.prompt_tokens = 3});
  EXPECT_FALSE(usage.ToJson().contains("holdfast"));
  usage.Add(0, GenerationDone{.prompt_tokens = 3, .kept_for = absl::Seconds(2)});
  EXPECT_EQ(usage.ToJson()["holdfast"].dump(), R"({"pinned":true,"pin_expires_in_ms":2000})");
  usage.Add(1, GenerationDone{.prompt_tokens = 3, .kept_for = absl::ZeroDuration()});
  EXPECT_EQ(usage.ToJson()["holdfast"].dump(), R"({"pinned":false,"pin_expires_in_ms":0})");
}

}  // namespace
}  // namespace holdfast
