#include "server/token_stream.h"

#include <deque>
#include <iterator>
#include <string>
#include <utility>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "config/limits.h"

namespace holdfast {
namespace {

template <typename T>
void AppendTo(std::vector<T>& to, std::vector<T>&& from) {
  if (to.empty()) {
    to = std::move(from);
  } else {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  }
}

void Merge(ChoiceDelta& waiting, ChoiceDelta&& next) {
  waiting.reasoning += next.reasoning;
  waiting.text += next.text;
  AppendTo(waiting.tokens, std::move(next.tokens));
  AppendTo(waiting.logprobs, std::move(next.logprobs));
  for (ToolCallDelta& call : next.tool_calls) AppendToolCall(std::move(call), waiting.tool_calls);
  if (next.finish.has_value()) {
    waiting.finish = next.finish;
    waiting.stop_string = std::move(next.stop_string);
  }
}

}  // namespace

class StreamState final {
 public:
  explicit StreamState(absl::AnyInvocable<void()> on_cancel) : on_cancel_(std::move(on_cancel)) {}

  bool Push(GenerationEvent event) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::AnyInvocable<void()> ready, cancel, over;
    {
      absl::MutexLock lock(&mutex_);
      if (ended_ || !reader_alive_) return false;
      if (std::holds_alternative<GenerationDone>(event)) {
        End(std::move(event));
        over = std::exchange(on_cancel_, nullptr);  // nothing is left to cancel
      } else if (TryMerge(event)) {
        if (++num_merged_ > kStreamEventsMax) {
          End(TooSlow());
          cancel = std::exchange(on_cancel_, nullptr);
        }
      } else {
        events_.push_back(std::move(event));
      }
      ready = std::exchange(ready_, nullptr);
    }
    const bool read_on = cancel == nullptr;
    if (cancel != nullptr) std::move(cancel)();
    if (ready != nullptr) std::move(ready)();
    return read_on;
  }

  std::optional<GenerationEvent> TryNext() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (events_.empty()) return std::nullopt;
    std::optional<GenerationEvent> event = std::move(events_.front());
    events_.pop_front();
    if (events_.empty()) num_merged_ = 0;
    return event;
  }

  void NotifyReady(absl::AnyInvocable<void()> ready) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (events_.empty()) {
        // What was asked before, or what can never be called now, dies outside the lock.
        if (!ended_ && reader_alive_) std::swap(ready_, ready);
        return;
      }
    }
    std::move(ready)();
  }

  void Cancel() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::AnyInvocable<void()> cancel;
    {
      absl::MutexLock lock(&mutex_);
      cancel = std::exchange(on_cancel_, nullptr);
    }
    if (cancel != nullptr) std::move(cancel)();
  }

  void DropReader() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::AnyInvocable<void()> cancel, ready;
    std::deque<GenerationEvent> events;
    {
      absl::MutexLock lock(&mutex_);
      reader_alive_ = false;
      cancel = std::exchange(on_cancel_, nullptr);
      ready = std::exchange(ready_, nullptr);
      events.swap(events_);
    }
    if (cancel != nullptr) std::move(cancel)();
  }

 private:
  // Into the event of the same choice that waits, if one does. At most one a choice waits, since
  // merging goes before adding; only the deltas at the back can be met, PromptInfo is the first.
  bool TryMerge(GenerationEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto* delta = std::get_if<ChoiceDelta>(&event);
    if (delta == nullptr) return false;
    for (GenerationEvent& other : events_) {
      auto* waiting = std::get_if<ChoiceDelta>(&other);
      if (waiting != nullptr && waiting->choice == delta->choice) {
        Merge(*waiting, std::move(*delta));
        return true;
      }
    }
    return false;
  }

  void End(GenerationEvent done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    events_.push_back(std::move(done));
    ended_ = true;
  }

  static GenerationDone TooSlow() {
    return {.status = absl::CancelledError(
                absl::StrCat("the client reads too slowly: more than ", kStreamEventsMax,
                             " pieces waited; read on while the answer is produced"))};
  }

  absl::Mutex mutex_;
  std::deque<GenerationEvent> events_ ABSL_GUARDED_BY(mutex_);
  absl::AnyInvocable<void()> ready_ ABSL_GUARDED_BY(mutex_);
  absl::AnyInvocable<void()> on_cancel_ ABSL_GUARDED_BY(mutex_);
  int64_t num_merged_ ABSL_GUARDED_BY(mutex_) = 0;  // since the reader last emptied the stream
  bool reader_alive_ ABSL_GUARDED_BY(mutex_) = true;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

StreamWriter::StreamWriter(std::shared_ptr<StreamState> state) : state_(std::move(state)) {}
StreamWriter::StreamWriter(StreamWriter&&) noexcept = default;
StreamWriter& StreamWriter::operator=(StreamWriter&&) noexcept = default;

StreamWriter::~StreamWriter() {
  if (state_ != nullptr) {
    state_->Push(GenerationDone{
        .status = absl::UnavailableError("the daemon stopped before the answer was complete")});
  }
}

bool StreamWriter::Push(GenerationEvent event) { return state_->Push(std::move(event)); }

TokenStream::TokenStream(std::shared_ptr<StreamState> state) : state_(std::move(state)) {}
TokenStream::~TokenStream() { state_->DropReader(); }
std::optional<GenerationEvent> TokenStream::TryNext() { return state_->TryNext(); }
void TokenStream::NotifyReady(absl::AnyInvocable<void()> ready) {
  const std::shared_ptr<StreamState> state = state_;  // `ready` may drop this stream
  state->NotifyReady(std::move(ready));
}
void TokenStream::Cancel() { state_->Cancel(); }

StreamEnds MakeTokenStream(absl::AnyInvocable<void()> on_cancel) {
  // Shared: whichever end goes first, the other must still find the end of the stream.
  auto state = std::make_shared<StreamState>(std::move(on_cancel));
  return {.reader = std::make_shared<TokenStream>(state), .writer = StreamWriter(state)};
}

}  // namespace holdfast
