// The threads that turn prompts into tokens (and, for /tokenize and /detokenize, back). Each tenant
// has a queue of its own and the tenants take turns, so that one tenant's long texts cost another
// no more than the task that runs.
//
//   front ends --TryPost--> [tenant 0: t t t t t]   --one each in turn--> worker 0
//                           [tenant 1: t]                                 worker 1
//
// Thread: TryPost by any; tasks run on the workers' threads only, in order within a tenant as far
// as they begin.
// Bound: tasks_max waiting tasks a tenant; full is an answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "config/base/mutex.h"
#include "config/ids.h"

namespace holdfast {

class PromptWorkers final {
 public:
  using Task = absl::AnyInvocable<void()>;

  PromptWorkers(int32_t num_workers, size_t tasks_max);  // num_workers > 0
  ~PromptWorkers();                                      // as Stop
  // Takes nothing new, lets the workers finish what waits, joins them. Idempotent; one thread.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // All of them or none. False: the tenant's queue has not room enough, or we are stopping; no task
  // has run or will.
  [[nodiscard]] bool TryPost(TenantIndex tenant, std::vector<Task> tasks)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  // The next tenant's first task; null: stopped, and nothing waits.
  Task Next() ABSL_LOCKS_EXCLUDED(mutex_);

  const size_t tasks_max_;
  Mutex mutex_;
  CondVar news_;
  absl::flat_hash_map<TenantIndex, std::deque<Task>> queues_ ABSL_GUARDED_BY(mutex_);  // none empty
  std::deque<TenantIndex> turns_ ABSL_GUARDED_BY(mutex_);  // tenants with waiting tasks
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace holdfast
