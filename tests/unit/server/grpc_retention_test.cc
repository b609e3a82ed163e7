// What gRPC's requests say of keeping KV means what it means over HTTP (kv_retention_test.cc).
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "server/grpc_codec.h"
#include "server/kv_retention.h"

namespace holdfast {
namespace {

GenerationService::ModelInfo Model() {
  return {.name = "tiny", .context_tokens = 100, .vocab_size = 256, .has_chat_template = true};
}

using Fill = std::function<void(v1::RequestOptions&)>;

// All three requests with the same options.
struct Decoded {
  explicit Decoded(const Fill& fill, std::string_view metadata = {}) {
    v1::ChatRequest chat_request;
    v1::Message& message = *chat_request.add_messages();
    message.set_role("user");
    message.set_content("x");
    fill(*chat_request.mutable_options());
    chat = Decode(chat_request, Model(), metadata);
    v1::CompleteRequest complete_request;
    complete_request.set_prompt("x");
    fill(*complete_request.mutable_options());
    complete = Decode(complete_request, Model(), metadata);
    v1::GenerateRequest generate_request;
    generate_request.add_prompt_tokens(7);
    fill(*generate_request.mutable_options());
    generate = Decode(generate_request, Model(), metadata);
  }
  absl::StatusOr<GenerationRequest> chat, complete, generate;
};

// One answer for the three, which must agree.
GenerationRequest Taken(const Fill& fill, std::string_view metadata = {}) {
  Decoded decoded(fill, metadata);
  GenerationRequest first;
  for (auto* request : {&decoded.chat, &decoded.complete, &decoded.generate}) {
    EXPECT_TRUE(request->ok()) << request->status();
    if (!request->ok()) return first;
  }
  for (auto* other : {&decoded.complete, &decoded.generate}) {
    EXPECT_EQ((*other)->session, decoded.chat->session);
    EXPECT_EQ((*other)->session_final, decoded.chat->session_final);
    EXPECT_EQ((*other)->retain.has_value(), decoded.chat->retain.has_value());
    if ((*other)->retain && decoded.chat->retain) {
      EXPECT_EQ((*other)->retain->ttl, decoded.chat->retain->ttl);
      EXPECT_EQ((*other)->retain->priority, decoded.chat->retain->priority);
    }
  }
  return *std::move(decoded.chat);
}

// The field that all three refuse; empty: none does.
std::string RefusedParam(const Fill& fill, std::string_view metadata = {}) {
  Decoded decoded(fill, metadata);
  const auto param = [](const absl::StatusOr<GenerationRequest>& request) {
    if (request.ok()) return std::string();
    EXPECT_TRUE(absl::IsInvalidArgument(request.status())) << request.status();
    return std::string(request.status().GetPayload(kErrorParamUrl).value_or(absl::Cord()));
  };
  const std::string chat = param(decoded.chat);
  EXPECT_EQ(param(decoded.complete), chat);
  EXPECT_EQ(param(decoded.generate), chat);
  return chat;
}

void Retain(v1::RequestOptions& options, int64_t ttl_ms, int32_t priority = 0) {
  v1::KvRetain& retain = *options.mutable_kv_hints()->mutable_retain();
  retain.set_ttl_ms(ttl_ms);
  retain.set_priority(priority);
}

TEST(GrpcRetentionTest, WithoutAWishNothingIsKept) {
  const GenerationRequest request = Taken([](auto&) {});
  EXPECT_EQ(request.session, "");
  EXPECT_FALSE(request.session_final);
  EXPECT_FALSE(request.retain.has_value());
  EXPECT_FALSE(Taken([](auto& o) { o.mutable_kv_hints(); }).retain.has_value())
      << "hints without an action ask for nothing";
}

TEST(GrpcRetentionTest, ASessionIsNamedByTheOptionsOrElseByTheMetadata) {
  const Fill named = [](auto& o) { o.set_session_id("a"); };
  EXPECT_EQ(Taken(named).session, "a");
  EXPECT_EQ(Taken(named, "m").session, "a");
  EXPECT_EQ(Taken([](auto&) {}, "m").session, "m");
  EXPECT_FALSE(Taken(named).retain.has_value()) << "a name alone keeps nothing";
}

TEST(GrpcRetentionTest, WhatAnAgentSaysOfItselfIsTaken) {
  const GenerationRequest plain = Taken([](auto&) {});
  EXPECT_FALSE(plain.offline);
  EXPECT_EQ(plain.priority, 0);
  EXPECT_FALSE(plain.tool_hint.has_value());
  const GenerationRequest request = Taken([](auto& o) {
    o.set_offline(true);
    o.set_priority(-4);
    o.mutable_tool_hint()->set_name("bash");
  });
  EXPECT_TRUE(request.offline);
  EXPECT_EQ(request.priority, -4);
  EXPECT_EQ(request.tool_hint, ToolHint{.name = "bash"});
  EXPECT_EQ(Taken([](auto& o) {
              o.mutable_tool_hint()->set_name("bash");
              o.mutable_tool_hint()->set_expected_ms(250);
            }).tool_hint->expected,
            absl::Milliseconds(250));
}

TEST(GrpcRetentionTest, RetainCarriesTimeAndPriority) {
  const GenerationRequest request = Taken([](auto& o) { Retain(o, 60000, -2); });
  ASSERT_TRUE(request.retain.has_value());
  EXPECT_EQ(request.retain->ttl, absl::Minutes(1));
  EXPECT_EQ(request.retain->priority, -2);
  EXPECT_EQ(request.session, "") << "then it is kept under the request's id";
  EXPECT_EQ(Taken([](auto& o) { o.mutable_kv_hints()->mutable_retain(); }).retain->ttl,
            absl::Milliseconds(kPinTtlMsDefault));
}

TEST(GrpcRetentionTest, PromptCacheRetentionIsABoundedTimeUnlessAHintSaysMore) {
  const Fill day = [](auto& o) { o.set_prompt_cache_retention(v1::PROMPT_CACHE_RETENTION_24H); };
  EXPECT_EQ(Taken(day).retain->ttl, absl::Milliseconds(kPinTtlMsMax));
  EXPECT_EQ(Taken([](auto& o) {
              o.set_prompt_cache_retention(v1::PROMPT_CACHE_RETENTION_IN_MEMORY);
            }).retain->ttl,
            absl::Milliseconds(kPinTtlMsDefault));
  EXPECT_EQ(Taken([&](auto& o) {
              day(o);
              Retain(o, 7);
            }).retain->ttl,
            absl::Milliseconds(7));
}

TEST(GrpcRetentionTest, APromptCacheKeyNamesOnlyWhatIsKept) {
  const Fill key = [](auto& o) { o.set_prompt_cache_key("k"); };
  EXPECT_EQ(Taken(key).session, "");
  EXPECT_EQ(Taken([&](auto& o) {
              key(o);
              Retain(o, 1000);
            }).session,
            "k");
  EXPECT_EQ(Taken(
                [&](auto& o) {
                  key(o);
                  Retain(o, 1000);
                },
                "m")
                .session,
            "m");
}

TEST(GrpcRetentionTest, AFinalTurnKeepsNothingWhateverElseIsAsked) {
  const GenerationRequest request = Taken([](auto& o) {
    o.set_session_id("s");
    o.set_session_final(true);
    o.set_prompt_cache_retention(v1::PROMPT_CACHE_RETENTION_24H);
    Retain(o, 1000);
  });
  EXPECT_TRUE(request.session_final);
  EXPECT_EQ(request.session, "s");
  EXPECT_FALSE(request.retain.has_value());
}

TEST(GrpcRetentionTest, WhatIsOutOfRangeIsRefusedByTheFieldsPath) {
  const char* ttl = "options.kv_hints.retain.ttl_ms";
  for (const int64_t taken : {int64_t{1}, int64_t{kPinTtlMsMax}}) {
    EXPECT_EQ(RefusedParam([&](auto& o) { Retain(o, taken); }), "") << taken;
  }
  for (const int64_t refused :
       {int64_t{0}, int64_t{-1}, int64_t{kPinTtlMsMax} + 1, std::numeric_limits<int64_t>::min(),
        std::numeric_limits<int64_t>::max()}) {
    EXPECT_EQ(RefusedParam([&](auto& o) { Retain(o, refused); }), ttl) << refused;
  }
  EXPECT_EQ(RefusedParam([](auto& o) { o.set_session_final(true); }), "options.session_final")
      << "of which session?";
  EXPECT_EQ(RefusedParam([](auto& o) {
              o.set_prompt_cache_retention(static_cast<v1::PromptCacheRetention>(9));
            }),
            "options.prompt_cache_retention");
  const std::string fits(kUserStringBytesMax, 's'), too_long(kUserStringBytesMax + 1, 's');
  EXPECT_EQ(RefusedParam([&](auto& o) { o.set_session_id(fits); }), "");
  EXPECT_EQ(RefusedParam([&](auto& o) { o.set_session_id(too_long); }), "options.session_id");
  EXPECT_EQ(RefusedParam([&](auto& o) { o.set_prompt_cache_key(too_long); }),
            "options.prompt_cache_key");
  EXPECT_EQ(RefusedParam([](auto&) {}, too_long), "X-Session-Id");
  EXPECT_EQ(RefusedParam([](auto&) {}, "\xff"), "X-Session-Id");
}

TEST(GrpcRetentionTest, UsageSaysForHowLongWhereItWasAskedFor) {
  v1::Usage usage;
  SetUsage(GenerationDone{.prompt_tokens = 3}, usage);
  EXPECT_FALSE(usage.has_pin_expires_in_ms());
  SetUsage(GenerationDone{.prompt_tokens = 3, .kept_for = absl::Seconds(2)}, usage);
  EXPECT_EQ(usage.pin_expires_in_ms(), 2000);
  v1::Usage refused;
  SetUsage(GenerationDone{.prompt_tokens = 3, .kept_for = absl::ZeroDuration()}, refused);
  ASSERT_TRUE(refused.has_pin_expires_in_ms());
  EXPECT_EQ(refused.pin_expires_in_ms(), 0);
}

}  // namespace
}  // namespace holdfast
