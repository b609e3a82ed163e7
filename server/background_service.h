// What runs without a client that waits: batches, and responses in the background; and the state
// that both are kept in.
//
//   HTTP, gRPC --Ask--> [tasks] --> its thread: state, starts, gathers --> GenerationService
//
// Batches: their lines are offline requests, which take what other traffic leaves, a bounded number
// at a time, their answers kept as they come (batch_store.h). Tenants have equal shares of the
// lines that run at once; a tenant's batches are taken in the order in which they came. A line that
// is refused for lack of room is tried again, after longer and longer pauses, while those behind it
// go on; one that the client got wrong is an error of that line. Told to stop, it cancels what
// runs, which stays open and is run again by the next process.
//
// Thread: Ask and Stop by any; all work, and Run, by one thread of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/base/growing_table.h"
#include "config/base/metrics.h"
#include "config/ids.h"
#include "config/tenant_config.h"
#include "server/answer_writer.h"
#include "server/batch_store.h"
#include "server/file_leases.h"
#include "server/generation.h"
#include "server/json_body.h"
#include "server/state.h"

namespace holdfast {

struct BackgroundOptions {
  std::vector<std::string> tenants;  // names by TenantIndex; others: AddTenants
  int32_t lines_at_once = 32;        // requests of all batches together; each prompt is one
  std::string system_fingerprint;    // as HTTP's answers have
  // Something of the store failed that no caller is told; any thread. Optional.
  std::function<void(const absl::Status&)> on_fault;
  std::function<absl::Time()> now = SteadyNow;  // of its pauses; on its thread
};

// What is told to whom Ask refuses.
absl::Status TooBusyForState();

class BackgroundService final {
 public:
  using Task = absl::AnyInvocable<void(State&)>;
  // The answer's body, or what went wrong.
  using OnEnd = absl::AnyInvocable<void(State&, absl::StatusOr<std::string>)>;

  // What is passed by reference must outlive this.
  BackgroundService(BackgroundOptions options, std::unique_ptr<State> state,
                    GenerationService& service, MetricsRegistry& metrics);
  ~BackgroundService();  // stops

  // New ones behind those that there are: `names` has all. By one thread at a time, before they
  // send requests, and once the scheduler takes theirs: batches that they left go on at once.
  void AddTenants(const std::vector<std::string>& names);
  // Begins to run what there is to run. Ask works from the start.
  void BeginRunning();
  // `task` runs on the background thread; afterwards it is looked whether there is something to
  // run. False: stopped, or too many wait; `task` is dropped.
  [[nodiscard]] bool Ask(Task task);
  // As Ask, for the end of what was begun: refused only where it was stopped, however many wait.
  // Whoever began it asks once.
  [[nodiscard]] bool AskAtEnd(Task task);
  // For a task: starts `requests`, whose answer goes to `on_end` on this thread; not where it was
  // stopped before.
  void Run(std::vector<GenerationRequest> requests, std::unique_ptr<AnswerBodyWriter> answer,
           OnEnd on_end);
  // For files on their way in or out, over any wire.
  FileLeases& file_leases() { return file_leases_; }
  // Something that no caller is told.
  void Told(const absl::Status& status) {
    if (!status.ok() && options_.on_fault) options_.on_fault(status);
  }
  const std::string& TenantName(TenantIndex tenant) const {
    return tenants_[static_cast<size_t>(Number(tenant))];
  }
  // Batches stop; what they ran stays open, for the next process. Responses in the background go
  // on.
  void BeginDrain();
  void Stop();  // idempotent

 private:
  // Requests whose answer is read as a whole.
  struct Running {
    std::vector<std::shared_ptr<GenerationStream>> streams;
    std::vector<bool> done;
    std::unique_ptr<AnswerBodyWriter> answer;
    bool begun = false;  // its prompt was computed
    void Cancel() {
      for (const auto& stream : streams) stream->Cancel();
    }
  };
  struct RunningLine;
  struct LineCall;
  struct ActiveBatch;

  bool Put(Task task, size_t tasks_max);
  void Loop();
  std::vector<Task> WaitForWork(bool running);
  absl::Status Look();
  absl::Status DeleteExpired(absl::Time now);
  void WriteEnds();
  static bool IsOver(const Batch& batch);
  std::optional<TenantIndex> TenantOf(const std::string& name) const;
  static int32_t RequestsOf(const ActiveBatch& active);
  int32_t RequestsRunning() const;
  absl::Status Advance(ActiveBatch& active, int32_t share);
  absl::Status StartLines(ActiveBatch& active, int32_t share);
  absl::StatusOr<LineCall> ReadCall(std::string_view endpoint, std::string_view body);
  absl::StatusOr<std::optional<OpenLine>> NextLine(ActiveBatch& active);
  void StartLine(ActiveBatch& active, OpenLine line);
  Running Start(std::vector<GenerationRequest> requests, std::unique_ptr<AnswerBodyWriter> answer);
  std::optional<absl::Status> Gather(Running& running);
  bool GatherAll();
  std::vector<Task> LastTasks();
  bool GatherLine(const std::string& batch, RunningLine& line);
  void EndLine(const std::string& batch, const RunningLine& line, const absl::Status& status);
  void Keep(const std::string& batch, const RunningLine& line, std::string answer, bool failed);
  void CancelLines();
  std::function<void()> Waker();

  const BackgroundOptions options_;
  const std::unique_ptr<State> state_;
  GrowingTable<std::string> tenants_{kTenantsMax};  // names by TenantIndex
  FileLeases file_leases_;
  GenerationService& service_;
  Counter lines_ok_, lines_failed_, lines_retried_;
  Gauge lines_running_, batches_running_;

  // Of its thread.
  std::vector<std::pair<Running, OnEnd>> runs_;
  std::map<std::string, ActiveBatch> active_;  // by id
  std::vector<BatchStore::Answer> answers_;    // not yet kept
  absl::Time next_look_ = absl::InfinitePast(), next_delete_ = absl::InfinitePast();
  absl::Time next_write_ = absl::InfinitePast();  // of ends of responses
  absl::BitGen random_;

  // Shared with streams that may tell of an event when this is gone.
  struct Wake {
    absl::Mutex mutex;
    bool ready ABSL_GUARDED_BY(mutex) = false;    // a line has an event
    bool running ABSL_GUARDED_BY(mutex) = false;  // BeginRunning was called
    bool draining ABSL_GUARDED_BY(mutex) = false;
    bool stopped ABSL_GUARDED_BY(mutex) = false;
    std::vector<Task> tasks ABSL_GUARDED_BY(mutex);
  };
  const std::shared_ptr<Wake> wake_ = std::make_shared<Wake>();
  absl::Mutex stop_mutex_;  // two stops at once: the second waits for the first
  std::thread thread_ ABSL_GUARDED_BY(stop_mutex_);
};

}  // namespace holdfast
