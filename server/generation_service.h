// GenerationService over the scheduler of this process: text in, token requests to the scheduler,
// token events back, text out.
//
//   Start ─► prompt worker: render, tokenise, check ─► stream worker: submit ─► scheduler
//                                                          ▲                       │
//   GenerationStream ◄── detokenise, stop strings ◄────────┴── OnPrompt/OnToken/OnDone
//
// Two pools, since a long prompt must not hold up the tokens of others. A request's output always
// runs on the stream worker that its id names, which owns its state.
//
// The prompts of one body are a group: whichever is begun last submits all of them in one message,
// and the scheduler takes all or none. What ends one of them before ends all.
//
// The ring: the scheduler needs a TokenSink (this) when it is made, and this needs the scheduler.
// So main makes this first, then the scheduler with it, then calls Connect once, before the first
// Start; the two functions may be called from any thread and must not block.
//
// A request is over for the client when its stream ends; it is over here (running, WaitIdle) when
// the scheduler has said OnDone, its blocks being back then.
//
// The way down, in this order: the front ends stop; SchedulerLoop::Stop; Shutdown; then loop and
// service may go.
//
// Thread: all members by any, except Shutdown and the destructor.
// Bound: kTextTasksMax waiting texts a tenant (beyond: kResourceExhausted), kBodyTextBytesMax of
// one body; token events by num_choices * max_tokens of what the scheduler accepted.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/base/growing_table.h"
#include "config/base/metrics.h"
#include "config/tenant_config.h"
#include "scheduler/events.h"
#include "scheduler/request.h"
#include "server/generation.h"
#include "server/generation_metrics.h"
#include "server/generation_record.h"
#include "server/prompt_workers.h"
#include "server/request_encoder.h"
#include "server/text_workers.h"
#include "server/tool_names.h"
#include "text/text.h"

namespace holdfast {

struct GenerationServiceOptions {
  GenerationService::ModelInfo model;
  std::vector<TokenId> eos_tokens;         // drawing one ends a choice, unless ignore_eos
  std::array<uint8_t, 32> model_digest{};  // as EngineInfo
  std::string kv_layout;                   // names dtype and shape of a KV block
  std::vector<TenantConfig> tenants;       // by TenantIndex; empty: the one tenant `default`
  bool prefix_cache = true;
  int32_t text_threads = 2;                            // of each pool
  absl::Duration request_timeout = absl::Minutes(10);  // arrival to end: kDeadlineExceeded
  // Hears of each request that is over, on a worker's thread or its caller's; must not block.
  // Empty: nobody does.
  std::function<void(const GenerationRecord&)> on_end;
};

enum class Admit : uint8_t;  // scheduler/scheduler_loop.h
class GenerationTask;
class SchedulerLoop;

// How requests reach the scheduler: what SchedulerLoop's members of these names promise.
struct SchedulerPort {
  std::function<Admit(std::vector<Request>&&)> submit_all;
  std::function<void(RequestId)> cancel;
  std::function<void(RequestId, int32_t)> stop_choice;
  std::function<void(RequestId, std::string)> name_tool;
  std::function<int32_t(TenantIndex)> requests_at_once_max;
  std::function<absl::Duration()> retry_after;  // of its snapshot
};
SchedulerPort PortTo(SchedulerLoop& loop);  // which must outlive the port

class SchedulerGenerationService final : public GenerationService,
                                         public TokenSink,
                                         private TextWorkers::Handler {
 public:
  // `chat_template` may be null: then chats are refused. All references must outlive this.
  SchedulerGenerationService(GenerationServiceOptions options, const Tokenizer& tokenizer,
                             const ChatTemplate* chat_template, const Clock& clock,
                             MetricsRegistry& metrics);
  ~SchedulerGenerationService() override;

  void Connect(SchedulerPort scheduler);  // once, before the first Start
  // What their requests may claim from now on, by TenantIndex, of the tenants that there are, and
  // new ones behind them. By one thread at a time, before new ones send requests.
  void SetTenants(const std::vector<TenantConfig>& tenants);

  // From now on Start answers kUnavailable; what was started goes on. Idempotent.
  void BeginDrain() { draining_.store(true, std::memory_order_relaxed); }
  // True: nothing runs. Waits until then, at most until `deadline`.
  bool WaitIdle(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends what still runs with `reason`; the scheduler gives the blocks back.
  void CancelAll(const absl::Status& reason) ABSL_LOCKS_EXCLUDED(mutex_);
  int32_t running() const ABSL_LOCKS_EXCLUDED(mutex_);
  // As their clients know them; empty: over.
  std::vector<std::string> WireIds(const std::vector<RequestId>& requests) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Joins the workers and ends what is left with kUnavailable. The scheduler's loop must be stopped
  // (so that its last events are still told) and not yet destroyed. Idempotent.
  void Shutdown();

  // GenerationService
  std::shared_ptr<GenerationStream> Start(GenerationRequest request) override;
  std::vector<std::shared_ptr<GenerationStream>> StartAll(
      std::vector<GenerationRequest> requests) override;
  bool CancelByWireId(TenantIndex tenant, const std::string& wire_id) override;
  // When too many tasks wait, `done` is called at once, by the caller's thread.
  void Tokenize(TextCaller caller, std::variant<ChatInput, std::string> text,
                bool add_special_tokens,
                absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)> done) override;
  void Detokenize(TextCaller caller, std::vector<TokenId> tokens,
                  absl::AnyInvocable<void(absl::StatusOr<std::string>)> done) override;
  std::string TokenText(TokenId token) const override;
  const ModelInfo& model_info() const override { return options_.model; }

  // TokenSink, on the scheduler's thread: one push into a mailbox.
  void OnPrompt(PromptEvent event) override;
  void OnToken(TokenEvent event) override;
  void OnDone(RequestDone event) override;

 private:
  using WireKey = std::pair<TenantIndex, std::string>;
  struct Tenant {
    explicit Tenant(const TenantConfig& tenant)
        : name(tenant.name), sharing_group(tenant.sharing_group) {}
    const std::string name;
    const std::optional<std::string> sharing_group;
    std::atomic<int32_t> priority_max{0};
  };
  struct Group;        // the requests of one body
  struct Live;         // what other threads may do to a request: have it stopped
  struct Pending;      // a request before it has tokens
  struct StreamEntry;  // a request that has begun
  struct StreamState;  // one stream worker's own

  // Any thread.
  std::shared_ptr<Live> Register(const GenerationRequest& request, std::shared_ptr<Group> group)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Forget(const Live& live) ABSL_LOCKS_EXCLUDED(mutex_);
  void Stop(Live& live, const absl::Status& reason);
  void EndBeforeBegin(Pending& pending, absl::Status status);
  // Ends those of the group that have begun; the others find the reason. Nothing happens once they
  // are submitted or have failed.
  void FailGroup(Group& group, const absl::Status& status);
  void EndBegun(const std::vector<RequestId>& begun, const absl::Status& status);
  // One request of the group has ended for its client; the last one has all counted as one.
  void CountEnd(const Live& live, const absl::Status& status);
  absl::Status CheckGroup(const std::vector<GenerationRequest>& requests) const;
  template <typename Answer>
  void PostText(TextCaller caller, absl::AnyInvocable<absl::StatusOr<Answer>()> work,
                absl::AnyInvocable<void(absl::StatusOr<Answer>)> done);
  absl::Status CheckTime(const GenerationRequest& request) const;
  int32_t StreamWorkerOf(RequestId id) const;

  // Prompt workers.
  void Prepare(const std::shared_ptr<Pending>& pending);

  // The stream worker of the request.
  absl::Duration Handle(int32_t worker, std::vector<TextMessage>& messages) override;
  void Begin(Pending& pending, EncodedRequest encoded);
  // `request` is one more of its group that has begun, if it needs the scheduler at all; the last
  // one submits all.
  void JoinGroup(Group& group, RequestId id, std::optional<Request> request);
  Request ToSchedulerRequest(const GenerationTask& task,
                             std::vector<std::shared_ptr<TokenMask>> masks) const;
  void HandleStop(RequestId id);
  void HandleToken(TimedToken token);
  void HandleDone(RequestDone event);
  // The client's end comes before the scheduler's, whose sequences must stop.
  void EndEarly(StreamEntry& entry, absl::Status status);
  void EndStream(StreamEntry& entry, absl::Status status);
  void ExpireOld(StreamState& state);
  StreamEntry* FindEntry(RequestId id);  // null: over
  // Over; ends the stream if it has not ended.
  void EraseTask(RequestId id, absl::Status status, StageTimes times = {});

  const GenerationServiceOptions options_;
  GrowingTable<Tenant> tenants_{kTenantsMax};  // by TenantIndex
  const Tokenizer& tokenizer_;
  const Clock& clock_;
  GenerationMetrics metrics_;
  RequestEncoder encoder_;
  SchedulerPort scheduler_;
  std::atomic<bool> draining_{false};
  std::atomic<bool> shut_down_{false};

  mutable absl::Mutex mutex_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<RequestId, std::shared_ptr<Live>> live_ ABSL_GUARDED_BY(mutex_);
  // A completions request with several prompts has several requests under one wire id.
  absl::flat_hash_map<WireKey, std::vector<RequestId>> by_wire_id_ ABSL_GUARDED_BY(mutex_);

  std::vector<std::unique_ptr<StreamState>> stream_states_;  // by stream worker
  // The pools come last: their threads end before what they use, prompts before streams.
  std::unique_ptr<TextWorkers> stream_workers_;
  std::unique_ptr<PromptWorkers> prompt_workers_;
};

}  // namespace holdfast
