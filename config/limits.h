// Every fixed bound of the daemon, in one place (promise 4: everything has a bound). What an
// operator may choose lies in daemon_config.h; what is here follows from the wire contracts or
// protects the process itself.
#pragma once

#include <cstddef>
#include <cstdint>

namespace holdfast {

// KV.
inline constexpr int32_t kBlockTokens = 16;            // token places of a KV block
inline constexpr int32_t kAttentionSplitTokens = 256;  // keys of one partial attention; fixed, so
                                                       // that sums have one order (promise 1)

// Requests.
inline constexpr size_t kRequestBodyBytesMax = 8 << 20;
inline constexpr size_t kRequestHeaderBytesMax = 32 << 10;
inline constexpr int32_t kJsonDepthMax = 64;
inline constexpr int32_t kJsonContainersMax = 100'000;  // objects and arrays of one body: 20 MB
inline constexpr size_t kJsonFieldsMax = 128;           // fields of an object that we read
inline constexpr int32_t kMessagesMax = 4096;           // messages of one chat request
inline constexpr int32_t kContentPartsMax = 1024;       // parts of one message
inline constexpr int32_t kChoicesMax = 16;              // n
inline constexpr int32_t kPromptsMax = 64;              // prompts of one completions request
inline constexpr size_t kBodyTextBytesMax = 4 << 20;    // text of all prompts of one request: 2 s
inline constexpr int32_t kStopStringsMax = 16;          // OpenAI allows 4; peers allow more
inline constexpr size_t kStopStringBytesMax = 256;
inline constexpr int32_t kStopTokensMax = 64;  // stop_token_ids
inline constexpr int32_t kTopLogprobsMax = 20;
inline constexpr int32_t kLogitBiasMax = 1024;
inline constexpr int32_t kToolsMax = 512;
inline constexpr size_t kCacheSaltBytesMax = 256;
inline constexpr size_t kToolNameBytesMax = 128;
inline constexpr int64_t kToolMsMax = 24 * 60 * 60 * 1000;  // tool_hint.expected_ms
inline constexpr size_t kUserStringBytesMax = 1024;         // user, session_id, request ids

// Embeddings.
inline constexpr int32_t kEmbeddingInputsMax = 2048;     // texts of one request: OpenAI's
inline constexpr size_t kEmbeddingNumbersMax = 4 << 20;  // of all its embeddings: 16 MB

// KV kept between turns. What may be kept at a time is the pin table's matter
// (kvstore/pin_table.h).
inline constexpr int64_t kPinTtlMsDefault = 5 * 60 * 1000;  // where a caller names no time
inline constexpr int64_t kPinTtlMsMax = 60 * 60 * 1000;     // an agent that waits longer is gone

// Chat templates.
inline constexpr uint64_t kTemplateFuelMax = 20'000'000;  // minijinja steps: about 100 ms
inline constexpr size_t kTemplateOutputBytesMax = 32 << 20;

// Grammars that answers are held to.
inline constexpr size_t kGrammarBytesMax = 256 << 10;
inline constexpr size_t kGrammarChoicesMax = 4096;  // strings of one `choice`
inline constexpr size_t kTagTriggersMax = 64;       // of one `structural_tag`
inline constexpr size_t kTagMarkBytesMax = 1024;    // what begins or ends a tag
inline constexpr size_t kGrammarsPerTenant = 64;    // compiled and kept
// That a caller waits for one. Those left behind then may each take a core until they end; a
// tenant's own bound leaves room for the others. text/grammar.h, of a room that includes no other,
// has the same as defaults; a test holds them to these.
inline constexpr uint64_t kGrammarCompileMsMax = 3000;
inline constexpr size_t kGrammarsLeftBehindPerTenant = 2;
inline constexpr size_t kGrammarsLeftBehindMax = 8;

// Streams.
inline constexpr int32_t kForcedTokensMax = 256;   // taken at once behind one that was drawn
inline constexpr int32_t kStreamEventsMax = 4096;  // events waiting for one slow reader
inline constexpr int64_t kWriteMsMax = 60 * 1000;  // until a client has taken one write
inline constexpr size_t kTextTasksMax = 2048;      // texts of one tenant waiting for a text worker
inline constexpr int kGrpcStreamsMax = 1024;       // calls of one gRPC connection at a time

}  // namespace holdfast
