// A generation service whose clock, scheduler and chat template are the test's own.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/base/metrics.h"
#include "scheduler/scheduler_loop.h"
#include "server/generation_service.h"
#include "tests/unit/server/byte_tokenizer.h"

namespace holdfast {

class HandClock final : public Clock {
 public:
  absl::Time Now() const override {
    absl::MutexLock lock(&mutex_);
    return now_;
  }
  void Advance(absl::Duration by) {
    absl::MutexLock lock(&mutex_);
    now_ += by;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'000'000);
};

// The scheduler's side, played by the test: takes requests and cancels, waits for them.
class HandScheduler final {
 public:
  SchedulerPort Port() {
    return {.submit_all = [this](std::vector<Request>&& all) { return SubmitAll(std::move(all)); },
            .cancel =
                [this](RequestId id) {
                  absl::MutexLock lock(&mutex_);
                  cancelled_.push_back(id);
                },
            .stop_choice =
                [this](RequestId id, int32_t choice) {
                  absl::MutexLock lock(&mutex_);
                  stopped_.emplace_back(id, choice);
                },
            .name_tool =
                [this](RequestId id, std::string tool) {
                  absl::MutexLock lock(&mutex_);
                  named_.emplace_back(id, std::move(tool));
                },
            .requests_at_once_max = [this](TenantIndex) { return at_once_max.load(); },
            .retry_after = [this] { return absl::Milliseconds(retry_after_ms.load()); }};
  }
  Request WaitRequest() {
    absl::MutexLock lock(&mutex_);
    auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !requests_.empty(); };
    mutex_.Await(absl::Condition(&there));
    Request request = std::move(requests_.front());
    requests_.pop_front();
    return request;
  }
  void WaitCancel(RequestId id) {
    absl::MutexLock lock(&mutex_);
    auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return std::find(cancelled_.begin(), cancelled_.end(), id) != cancelled_.end();
    };
    mutex_.Await(absl::Condition(&there));
  }
  std::pair<RequestId, std::string> WaitNamed() {
    absl::MutexLock lock(&mutex_);
    auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !named_.empty(); };
    mutex_.Await(absl::Condition(&there));
    std::pair<RequestId, std::string> named = std::move(named_.front());
    named_.pop_front();
    return named;
  }
  void WaitStopped(RequestId id, int32_t choice) {
    absl::MutexLock lock(&mutex_);
    auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return std::find(stopped_.begin(), stopped_.end(), std::pair(id, choice)) != stopped_.end();
    };
    mutex_.Await(absl::Condition(&there));
  }
  size_t num_named() {  // and not waited for
    absl::MutexLock lock(&mutex_);
    return named_.size();
  }
  size_t num_cancelled() {
    absl::MutexLock lock(&mutex_);
    return cancelled_.size();
  }
  size_t num_waiting() {
    absl::MutexLock lock(&mutex_);
    return requests_.size();
  }
  void Answer(Admit admit) { admit_ = admit; }

  std::atomic<int32_t> at_once_max{8};
  std::atomic<int64_t> retry_after_ms{1000};
  std::atomic<int> num_submissions{0};

 private:
  Admit SubmitAll(std::vector<Request>&& all) {
    ++num_submissions;
    if (admit_ != Admit::kAccepted) return admit_;
    absl::MutexLock lock(&mutex_);
    for (Request& request : all) requests_.push_back(std::move(request));
    return Admit::kAccepted;
  }

  std::atomic<Admit> admit_{Admit::kAccepted};
  absl::Mutex mutex_;
  std::deque<Request> requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<RequestId> cancelled_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<RequestId, int32_t>> stopped_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::pair<RequestId, std::string>> named_ ABSL_GUARDED_BY(mutex_);
};

// Renders a conversation as its JSON text; refuses where asked to.
class EchoTemplate final : public ChatTemplate {
 public:
  absl::Status Encode(const ChatInput& input, std::vector<int32_t>& ids) const override {
    if (input.messages_json == "bad") return absl::InvalidArgumentError("roles must alternate");
    for (const char c : input.messages_json) ids.push_back(static_cast<uint8_t>(c));
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> Render(const ChatInput& input) const override {
    return input.messages_json;
  }
};

class GenerationBench : public testing::Test {
 protected:
  static constexpr int32_t kContext = 64;
  static constexpr int kPromptWorkers = 2;

  GenerationBench() {
    GenerationServiceOptions options{.eos_tokens = {ByteTokenizer::kEos},
                                     .kv_layout = "f16/1/1/64",
                                     .text_threads = kPromptWorkers,
                                     .request_timeout = absl::Seconds(60)};
    options.model.name = "tiny";
    options.model.context_tokens = kContext;
    options.model.vocab_size = tokenizer_.vocab_size();
    options.tenants = {{.name = "red"}, {.name = "blue"}, {.name = "green"}};
    options.tenants[0].sharing_group = "warm";
    options.tenants[1].sharing_group = "warm";
    options.on_end = [this](const GenerationRecord& record) {
      absl::MutexLock lock(&mutex_);
      records_.push_back(record);
    };
    service_ = std::make_unique<SchedulerGenerationService>(options, tokenizer_, &template_, clock_,
                                                            metrics_);
    service_->Connect(scheduler_.Port());
  }
  ~GenerationBench() override { service_->Shutdown(); }

  GenerationRequest Ask(std::string prompt, std::optional<int32_t> max_tokens = 10) {
    GenerationRequest request;
    request.wire_id = "id";
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.arrival = clock_.Now();
    return request;
  }

  void Say(const Request& request, std::string_view text, int32_t choice = 0,
           std::optional<SequenceEnd> end = std::nullopt) {
    for (size_t i = 0; i < text.size(); ++i) {
      service_->OnToken({.request = request.id,
                         .choice = choice,
                         .token = static_cast<uint8_t>(text[i]),
                         .logprob = -1.0f,
                         .end = i + 1 == text.size() ? end : std::nullopt});
    }
  }
  void Done(const Request& request, absl::Status status = absl::OkStatus(), StageTimes times = {}) {
    service_->OnDone(
        {.request = request.id, .status = std::move(status), .times = std::move(times)});
  }
  GenerationRecord WaitRecord() {
    absl::MutexLock lock(&mutex_);
    auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !records_.empty(); };
    mutex_.Await(absl::Condition(&there));
    GenerationRecord record = std::move(records_.front());
    records_.pop_front();
    return record;
  }

  // Keeps all prompt workers busy until the answer is notified, so that what comes meanwhile waits.
  // The workers share what they wait on: a test may end before the last of them has woken.
  std::shared_ptr<absl::Notification> HoldPromptWorkers() {
    auto go_on = std::make_shared<absl::Notification>();
    absl::BlockingCounter held(kPromptWorkers);
    for (int i = 0; i < kPromptWorkers; ++i) {
      service_->Tokenize({}, "x", true, [&held, go_on](auto) {
        held.DecrementCount();
        go_on->WaitForNotification();
      });
    }
    held.Wait();
    return go_on;
  }

  ByteTokenizer tokenizer_;
  EchoTemplate template_;
  HandClock clock_;
  MetricsRegistry metrics_;
  HandScheduler scheduler_;
  absl::Mutex mutex_;
  std::deque<GenerationRecord> records_ ABSL_GUARDED_BY(mutex_);  // of what is over
  std::unique_ptr<SchedulerGenerationService> service_;
};

}  // namespace holdfast
