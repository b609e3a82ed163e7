#include "server/text_workers.h"

#include <exception>
#include <utility>

#include "config/base/check.h"

namespace holdfast {

TextWorkers::TextWorkers(int32_t num_workers, Handler& handler) : handler_(handler) {
  CHECK(num_workers > 0);
  for (int32_t i = 0; i < num_workers; ++i) {
    workers_.push_back(std::make_unique<Worker>());
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
