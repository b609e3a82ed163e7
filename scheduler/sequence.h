// One line of tokens being computed, and the request that it belongs to.
//
//   kHeldBack ---> kWaiting ---> kRunning ---> kEnded
//                     ^             |
//                     +-- preempt --+
//
// kHeldBack: a later choice (n > 1) until the first has computed and published the prompt, so that
// the others find it. kWaiting holds nothing; kRunning holds a slot and blocks for all its tokens
// whose KV it computes; kEnded holds nothing. One that runs computes nothing yet while blocks that
// were found lower are on their way (`restoring`), unless it runs ahead of them (`gate`).
//
// Thread: the scheduler's alone.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "config/ids.h"
#include "engine/step_plan.h"
#include "kvstore/kv_store.h"
#include "scheduler/events.h"
#include "scheduler/policy/prompt_lookup.h"
#include "scheduler/request.h"
#include "scheduler/turn_ends.h"

namespace holdfast {

struct ActiveRequest;
struct Program;

// First come, first served, offline ones last: by the order in which requests came in, or the
// programs whose turns they are, then by choice. Who is earlier is preempted later.
struct SequenceOrder {
  bool offline = false;
  uint64_t arrival = 0;  // counts requests, from 0; of a program's turn: its first turn's
  uint64_t request = 0;  // likewise, its own
  int32_t choice = 0;
  auto operator<=>(const SequenceOrder&) const = default;
};

// What goes before the order while it waits; lower first. See wait_queue.h.
struct WaitRank {
  bool fresh = true;     // has not run yet, nor another choice of its request
  int32_t priority = 0;  // as on the wire
  bool unpinned = true;  // its program has no live pin
  int32_t level = 0;     // of its program
  double score = 0;      // see policy/wait_order.h
  auto operator<=>(const WaitRank&) const = default;
};

// Why a sequence waits, as a metric label.
enum class WaitReason : uint8_t {
  kTurn,          // others go first
  kPlaces,        // as many run as may
  kTenantPlaces,  // its tenant runs all it may
  kBlocks,        // the KV pool has no room
  kStepRows,      // the step's token budget is used up
  kPrefill,       // another computes its prefix
  kLookup,        // the remote tier has not answered yet
  kOnline,        // offline, and others wait
};
inline constexpr size_t kNumWaitReasons = 8;
const char* WaitReasonName(WaitReason reason);

// What the remote tier is asked about a sequence: once, before it first runs, if that is worth it.
enum class LookupState : uint8_t { kNotAsked, kAsked, kOver };

enum class SequenceState : uint8_t { kHeldBack, kWaiting, kRunning, kEnded };

// Few tokens end a sequence; these are looked at where it lies.
inline constexpr size_t kStopTokensNear = 4;

// What a step of decodes touches comes first: kSequenceStepBytes of it, three lines of memory, and
// nothing of its request, its table or its tokens but the place of the next one.
struct alignas(64) Sequence {
  ActiveRequest* request = nullptr;
  // Prompt, then completion; the last `num_completion` of them. Empty while held back.
  std::pmr::vector<TokenId> tokens;
  std::vector<BlockId> blocks;  // while running
  SequenceSlot slot{};          // likewise
  int32_t num_completion = 0;

  // While running. What the host plans and what the device has done are two names.
  int32_t computed_tokens = 0;  // KV written by committed steps, or found
  int32_t planned_tokens = 0;   // and by the steps that run; >= computed_tokens
  int32_t num_steps = 0;        // that run and have rows of it
  int32_t undelivered = 0;      // tokens that those draw
  int32_t draw_index = 0;       // of the last of those, in its step's result
  int32_t charged_tokens = 0;   // of `tokens`, whose cost its tenant has been charged
  int32_t publish_tokens = 0;   // so many computed, the store is told
  int32_t max_tokens = 0;       // its request's
  TenantIndex tenant{};         // likewise
  SequenceState state = SequenceState::kHeldBack;
  bool restoring = false;       // until the store says that what it found has arrived
  bool opened = false;          // the engine knows that it has the slot
  bool ends_with_step = false;  // its next token of a step that runs is dropped: it was stopped
  bool request_ends = false;    // all of it is dropped: its request ends with that step
  bool wants_logprobs = false;  // of what it draws
  bool masked = false;          // what it draws keeps to `mask`
  bool scores_prompt = false;   // its request may want logprobs of the prompt from it
  Pooling pooling{};            // its request's
  bool continues_pin = false;   // see continued_pin
  bool draw_known = false;      // a step that runs draws what `tokens` has already
  uint8_t num_stop_tokens = 0;  // of stop_tokens; above kStopTokensNear: its request has them
  uint64_t table_version = 0;   // of `blocks`, see kept_tables.h

  SequenceOrder order;
  std::array<TokenId, kStopTokensNear> stop_tokens{};
  RequestId id{};          // of its request
  TokenId last_drawn = 0;  // the last of `tokens`, if it has completion tokens
  int32_t num_untold = 0;  // so many last tokens were forced, and the engine does not know of them

  // Hereafter what not every step touches.
  std::shared_ptr<TokenMask> mask;

  // While running:
  PublishedPrefix published;
  int32_t held_blocks = 0;          // so many of `blocks` are counted
  const LayerGate* gate = nullptr;  // while restoring: behind which it may run ahead
  TierTokens hit_tokens{};          // found when it started, by tier
  absl::Time started;               // to run, this time
  PinId continued_pin{};            // goes with the Commit of its first step
  int32_t plan_place = 0;           // among the prefills of the plan being made
  PromptLookup repeats;             // guesses its next tokens

  // While waiting.
  WaitRank rank;                               // constant while it waits
  WaitReason wait_reason = WaitReason::kTurn;  // as found by plan `wait_reason_plan`
  uint64_t wait_reason_plan = 0;
  uint64_t withheld_plan = 0;  // the last in which it made room for another tenant's prompt
  LookupState lookup = LookupState::kNotAsked;
  absl::Time lookup_until;  // then it waits no longer for the answer
  RemotePrefix remote;      // the answer
  // Found for it on the device and kept for it (scheduler_head.cc): once while it waits.
  std::vector<BlockId> kept;
  bool was_kept = false;

  uint64_t ask_again_plan = 0;   // waits for another's prefill: not to be asked before this Plan
  int32_t preempted_tokens = 0;  // were computed when it was last preempted; 0 once it runs again
  int32_t num_preempted = 0;     // how often
  int32_t num_taken_back = 0;    // of those, for another tenant
  std::optional<TenantIndex> taken_back_for;  // the last time, until it runs again

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_prompt() const { return num_tokens() - num_completion; }
  // With those that are being drawn.
  int32_t length() const { return num_tokens() + undelivered; }
  // Tokens whose KV no step has been planned for.
  int32_t unplanned_tokens() const { return length() - planned_tokens; }
};

inline constexpr size_t kSequenceStepBytes = 192;  // at its beginning, see above

inline bool RunsBefore(const Sequence* a, const Sequence* b) { return a->order < b->order; }

// A request from Submit to RequestDone.
struct ActiveRequest {
  explicit ActiveRequest(std::pmr::memory_resource& memory) : choices(&memory) {}

  Request request;  // its prompt is now the first choice's; see `prompt_size`
  int32_t prompt_size = 0;
  uint64_t arrival = 0;
  absl::Time submitted;
  std::pmr::vector<Sequence> choices;  // all of them from the beginning: where they lie they stay
  int32_t choices_left = 0;
  int32_t running_choices = 0;
  bool admitted = false;  // some choice has run
  StageTimes times;
  // Whose turn it is, until the table has been told how the turn ended; nullptr: nobody's.
  Program* program = nullptr;
  std::optional<std::string> tool;  // that its answer calls, where that was told before its end
  // Of one that named no session, which its prompt may have found: so that the next turn finds it.
  std::optional<TurnEnds::PromptKey> prompt_key;
  bool prompt_done = false;  // the PromptEvent is out
  // Why it ends when a step that runs is through; what steps compute of it is dropped.
  std::optional<absl::Status> ends_with_step;
  // When the first choice first began to compute: what it found, in all and by tier.
  std::optional<int32_t> cached_tokens;
  TierTokens hit_tokens{};
  std::optional<PinId> pin;  // that its first choice left
  // Of prompt tokens 1 .. in order, as far as computed, when the request asks for them.
  std::vector<PromptEvent::TokenWithTop> prompt_logprobs;
  std::vector<float> pooled;  // once its prompt is done, when the request asks for it

  // Logprobs of the whole prompt come from the first choice, which computes all of it.
  bool WantsPromptLogprobs(const Sequence& sequence) const;
  PrefixReuse ReuseOf(const Sequence& sequence) const;
  // A token is drawn after the last of `tokens`; false for those that only want their prompt
  // scored or pooled.
  bool draws() const { return request.max_tokens > 0; }
};

// The request as sequences, which lie in `memory` with their tokens, the first choice waiting.
// Request::prompt is copied there and given back.
std::unique_ptr<ActiveRequest> MakeActiveRequest(Request&& request, uint64_t arrival,
                                                 absl::Time now, std::pmr::memory_resource& memory);

// A choice's tokens begin with `prompt`, with room for the first that follow: the vector is not
// copied whole with the first of them.
void BeginTokens(std::span<const TokenId> prompt, Sequence& choice);

// What the engine must know when `sequence` takes its slot, for the first time or again.
void FillOpen(const Sequence& sequence, SequenceOpen& open);

// It was stopped or cancelled, and ends when a step that runs is through.
bool IsEnding(const Sequence& sequence);

// It takes no token after those that are being drawn, whatever they are.
bool EndsByLength(const Sequence& sequence, int32_t context_tokens);

// Why `sequence` is over after its last token, if it is.
std::optional<SequenceEnd> EndAfterLastToken(const Sequence& sequence, int32_t context_tokens);

}  // namespace holdfast
