#include "server/text_workers.h"

#include <exception>
#include <utility>

#include "config/base/check.h"

namespace holdfast {

TextWorkers::TextWorkers(int32_t num_workers, size_t mailbox_capacity, Handler& handler)
    : handler_(handler) {
  CHECK(num_workers > 0);
  for (int32_t i = 0; i < num_workers; ++i) {
    workers_.push_back(std::make_unique<Worker>(mailbox_capacity));
  }
  for (int32_t i = 0; i < num_workers; ++i) {
    workers_[i]->thread = std::thread([this, i] { Run(i); });
  }
}

TextWorkers::~TextWorkers() { Stop(); }

void TextWorkers::Stop() {
  for (auto& worker : workers_) worker->mailbox.Close();
  for (auto& worker : workers_) {
    if (worker->thread.joinable()) worker->thread.join();
  }
}

int32_t TextWorkers::PickWorker(size_t weight_bytes) {
  const uint32_t count = static_cast<uint32_t>(workers_.size());
  const uint32_t first = next_.fetch_add(1, std::memory_order_relaxed) % count;
  uint32_t best = first;
  size_t least = workers_[first]->waiting_bytes.load(std::memory_order_relaxed);
  for (uint32_t i = 1; i < count && least > 0; ++i) {
    const uint32_t other = (first + i) % count;
    const size_t bytes = workers_[other]->waiting_bytes.load(std::memory_order_relaxed);
    if (bytes < least) {
      best = other;
      least = bytes;
    }
  }
  workers_[best]->waiting_bytes.fetch_add(weight_bytes, std::memory_order_relaxed);
  return static_cast<int32_t>(best);
}

void TextWorkers::TaskDone(int32_t worker, size_t weight_bytes) {
  workers_[worker]->waiting_bytes.fetch_sub(weight_bytes, std::memory_order_relaxed);
}

bool TextWorkers::TryPost(int32_t worker, TextTask task) {
  TextMessage message(std::move(task));
  return workers_[worker]->mailbox.Push(std::move(message));
}

void TextWorkers::Post(int32_t worker, TextMessage message) {
  (void)workers_[worker]->mailbox.PushUrgent(std::move(message));
}

void TextWorkers::Run(int32_t index) {
  // Nothing of ours throws; a library that runs out of memory may. Half a request's state is worse
  // than a restart.
  try {
    std::vector<TextMessage> messages;
    absl::Duration wait = absl::InfiniteDuration();
    for (bool open = true; open;) {
      messages.clear();
      open = workers_[index]->mailbox.WaitTakeAll(messages, wait);
      wait = handler_.Handle(index, messages);
    }
  } catch (const std::exception& error) {
    CheckFailed(error.what(), __FILE__, __LINE__);
  }
}

}  // namespace holdfast
