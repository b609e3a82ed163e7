#include "server/prompt_workers.h"

#include <exception>
#include <utility>

#include "config/base/check.h"

namespace holdfast {

PromptWorkers::PromptWorkers(int32_t num_workers, size_t tasks_max) : tasks_max_(tasks_max) {
  CHECK(num_workers > 0);
  for (int32_t i = 0; i < num_workers; ++i) threads_.emplace_back([this] { Run(); });
}

PromptWorkers::~PromptWorkers() { Stop(); }

void PromptWorkers::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    news_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

bool PromptWorkers::TryPost(TenantIndex tenant, std::vector<Task> tasks) {
  MutexLock lock(&mutex_);
  const auto waiting = queues_.find(tenant);
  const size_t num_waiting = waiting == queues_.end() ? 0 : waiting->second.size();
  if (stopping_ || num_waiting + tasks.size() > tasks_max_) return false;
  if (tasks.empty()) return true;
  if (num_waiting == 0) turns_.push_back(tenant);
  std::deque<Task>& queue = queues_[tenant];
  for (Task& task : tasks) {
    queue.push_back(std::move(task));
    news_.NotifyOne();
  }
  return true;
}

PromptWorkers::Task PromptWorkers::Next() {
  MutexLock lock(&mutex_);
  while (turns_.empty() && !stopping_) news_.Wait(&mutex_);
  if (turns_.empty()) return nullptr;
  const TenantIndex tenant = turns_.front();
  turns_.pop_front();
  const auto waiting = queues_.find(tenant);
  Task task = std::move(waiting->second.front());
  waiting->second.pop_front();
  if (waiting->second.empty()) {
    queues_.erase(waiting);
  } else {
    turns_.push_back(tenant);
  }
  return task;
}

void PromptWorkers::Run() {
  // Nothing of ours throws; a library that runs out of memory may. Half a request's state is worse
  // than a restart.
  try {
    while (Task task = Next()) task();
  } catch (const std::exception& error) {
    CheckFailed(error.what(), __FILE__, __LINE__);
  }
}

}  // namespace holdfast
