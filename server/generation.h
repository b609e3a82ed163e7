// What HTTP and gRPC share: a checked request for text or tokens, and the stream of what comes
// back. Wire formats stop at the two front ends, threads and tokens begin behind GenerationService.
//
//   HTTP coroutine, gRPC reactor --Start--> GenerationService --text worker--> scheduler
//            ^                                                                    |
//            +---- GenerationStream (bounded) <---- text worker <---- TokenSink --+
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/ids.h"
#include "scheduler/request.h"
#include "server/field_names.h"
#include "server/tool_call_format.h"
#include "server/tool_call_parser.h"
#include "server/trace_context.h"
#include "text/grammar.h"
#include "text/text.h"

namespace holdfast {

struct ReasoningMarks;  // server/reasoning.h

// What an answer is held to, and the name that the caller's wire has for it.
struct AnswerGrammar {
  GrammarSource source;
  std::string param;
};

// How the calls of an answer look, and what can be one.
struct ToolCalling {
  ToolCallFormat format = ToolCallFormat::kUnknown;
  ToolCallRules rules;
};

// A prompt that is to become an embedding (server/embedding.h).
struct EmbeddingWish {
  Pooling pooling = Pooling::kMean;
  std::optional<int32_t> dimensions;  // nullopt: the model's
  std::string param;                  // the prompt in refusals, "input[3]"
};

// One prompt. A completions request with several prompts starts several of these.
struct GenerationRequest {
  TenantIndex tenant{};
  std::string wire_id;  // "chatcmpl-...": what the client sees and cancels by
  std::string model;    // as asked for; already found to be served
  std::variant<ChatInput, std::string, std::vector<TokenId>> prompt;
  std::optional<EmbeddingWish> embedding;  // what it becomes; then max_tokens is 0

  int32_t num_choices = 1;
  std::optional<int32_t> max_tokens;
  bool max_tokens_bend = false;  // to what the context leaves; else more than that is refused
  std::optional<int32_t> max_tokens_default;  // of the endpoint; none: what the context leaves
  std::vector<std::string> stop;              // stop strings, not shown
  std::vector<TokenId> stop_token_ids;
  bool include_stop = false;  // show the stop string
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  bool echo = false;  // completions: the prompt's text before the completion
  std::optional<int32_t> prompt_top_logprobs;
  bool want_text = true;    // false: token-in/token-out, no detokenizer
  SamplingParams sampling;  // seed: drawn by the front end when the caller gave none
  std::optional<AnswerGrammar> grammar;
  // Calls of tools are taken out of the text; set with a grammar that allows them.
  std::optional<ToolCalling> tool_calls;
  bool parts_reasoning = false;                 // it is told apart, where the model reasons
  std::optional<int32_t> reasoning_tokens_max;  // then the answer must begin
  std::string cache_salt;                       // narrows KV sharing within the tenant
  // Scheduler's Request. With `retain` and no session, the KV is kept under wire_id.
  std::string session;
  std::optional<Request::Retain> retain;
  bool session_final = false;
  std::optional<ToolHint> tool_hint;
  int32_t priority = 0;  // as asked for
  bool offline = false;
  absl::Time arrival;
  std::optional<TraceContext> trace;            // what it is a part of; absent: nobody traces
  const FieldNames* names = &kCompletionNames;  // for refusals; of static storage
};

// kCancelled has no finish reason: the stream ends with a status instead.
enum class FinishReason : uint8_t { kStop, kLength, kToolCalls };

struct TokenText {  // a token as clients see it in logprobs
  TokenId token = 0;
  std::string bytes;
  float logprob = 0.0f;
};
struct TokenTextWithTop {
  TokenText chosen;
  std::vector<TokenText> top;
  bool hidden = false;  // a control token that the text does not show
};

// A piece of one choice. Text is whole UTF-8; a stop string is never shown in part.
struct ChoiceDelta {
  int32_t choice = 0;
  std::string reasoning;  // comes before text
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<TokenTextWithTop> logprobs;  // of `tokens`, when asked for
  std::vector<ToolCallDelta> tool_calls;
  std::optional<FinishReason> finish;  // on the choice's last delta
  std::string stop_string;             // which one matched, if one did
};

// First event of a stream that got past the queue. For echo: text and logprobs of the prompt.
// Where one is wanted: its embedding.
struct PromptInfo {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;
  std::string text;                                       // with echo
  std::vector<TokenId> tokens;                            // with echo
  std::vector<std::optional<TokenTextWithTop>> logprobs;  // first is nullopt, as in OpenAI's form
  std::vector<int64_t> text_offsets;  // with echo and logprobs: characters of `text` before each
  std::vector<float> embedding;
};

// Last event. kOk, or what went wrong: kInvalidArgument (400), kResourceExhausted (429),
// kUnavailable (503), kDeadlineExceeded (504), kCancelled, kInternal. A machine-readable code for
// OpenAI's error object (`context_length_exceeded`, ...) travels as payload kErrorCodeUrl.
struct GenerationDone {
  absl::Status status;
  int32_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  int32_t reasoning_tokens = 0;  // of the completion's
  // Where keeping the KV was asked for: for how long it is kept. Zero: it is not, for lack of room.
  std::optional<absl::Duration> kept_for;
};
inline constexpr char kErrorCodeUrl[] = "holdfast/error_code";    // e.g. context_length_exceeded
inline constexpr char kErrorParamUrl[] = "holdfast/error_param";  // the offending parameter
inline constexpr char kRetryAfterUrl[] = "holdfast/retry_after";  // whole seconds, decimal

using GenerationEvent = std::variant<PromptInfo, ChoiceDelta, GenerationDone>;

// One request's output, read by one front-end task. Deltas of one choice that the reader has not
// yet taken are merged, so that a slow reader holds bounded memory; over kStreamEventsMax the
// request is cancelled. Dropping the last reference or Cancel() stops the sequences.
class GenerationStream {
 public:
  virtual ~GenerationStream() = default;
  // The next event if there is one. After GenerationDone nothing comes.
  virtual std::optional<GenerationEvent> TryNext() = 0;
  // Calls `ready` once, from any thread and maybe at once, when TryNext has something. One at a
  // time. Must not block: post to your own executor.
  virtual void NotifyReady(absl::AnyInvocable<void()> ready) = 0;
  virtual void Cancel() = 0;
};

// For whom a text is worked on.
struct TextCaller {
  TenantIndex tenant{};
  // Set when nobody waits for the answer any more: work that has not begun is dropped, and the
  // answer is kCancelled. Null: someone always waits. Shared: either side may go first.
  std::shared_ptr<const std::atomic<bool>> gone;
};

class GenerationService {
 public:
  virtual ~GenerationService() = default;

  // Never blocks. Refusals (queue full, prompt too long, ...) come as GenerationDone.
  virtual std::shared_ptr<GenerationStream> Start(GenerationRequest request) = 0;
  // The prompts of one body, of one tenant: admitted all or none, and counted as one request. Until
  // they are admitted, what ends one ends all. Streams in the order of `requests`. By default each
  // is started for itself.
  virtual std::vector<std::shared_ptr<GenerationStream>> StartAll(
      std::vector<GenerationRequest> requests) {
    std::vector<std::shared_ptr<GenerationStream>> streams;
    for (GenerationRequest& request : requests) streams.push_back(Start(std::move(request)));
    return streams;
  }
  // By the id the client saw; within one tenant. False: not known (any more).
  virtual bool CancelByWireId(TenantIndex tenant, const std::string& wire_id) = 0;

  // Off the caller's thread; `done` is called once, from a text worker.
  virtual void Tokenize(TextCaller caller, std::variant<ChatInput, std::string> text,
                        bool add_special_tokens,
                        absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)> done) = 0;
  virtual void Detokenize(TextCaller caller, std::vector<TokenId> tokens,
                          absl::AnyInvocable<void(absl::StatusOr<std::string>)> done) = 0;
  virtual std::string TokenText(TokenId token) const = 0;  // bytes, any thread

  struct ModelInfo {
    std::string name;
    std::vector<std::string> aliases;
    int32_t context_tokens = 0;
    int32_t vocab_size = 0;
    int64_t created_unix = 0;  // of the file
    bool has_chat_template = false;
    ToolCallFormat tool_calls = ToolCallFormat::kUnknown;  // of its answers
    const ReasoningMarks* reasoning = nullptr;             // null: it is not known to reason
    int32_t embedding_size = 0;  // numbers of an embedding; 0: it gives none
    Pooling pooling = Pooling::kMean;
    bool matryoshka = false;  // embeddings may be cut short
  };
  virtual const ModelInfo& model_info() const = 0;
};

// Whether the daemon takes requests. Read by /health/ready, the gRPC health service and admission.
// kFailing: step after step has failed (kEngineFailuresMax); over once one is good, or a while
// later, so that the next request tries. kLeaving: told to stop; says so and still takes requests,
// until who asks has heard of it.
enum class Readiness : uint8_t { kLoading, kReady, kFailing, kLeaving, kDraining };
inline constexpr size_t kNumReadiness = 5;

constexpr bool TakesRequests(Readiness readiness) {
  return readiness == Readiness::kReady || readiness == Readiness::kLeaving;
}

}  // namespace holdfast
