// One streamed answer that outlives the connections which read it. The call behind it writes into
// the log and does not know whether anybody reads; at most one client does, from where it likes,
// and who comes later takes the stream over.
//
//   call --SendEvents--> [ log ] --Read--> the client that reads it now, if any
//
// Thread: the I/O thread's alone. Bound: HttpStreams', which is told of each change (Hooks).
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "config/ids.h"
#include "server/event_log.h"
#include "server/event_sink.h"
#include "server/http_router.h"
#include "server/ready_signal.h"

namespace holdfast {

// What kind of stream it is, and whose.
struct KeptStreamName {
  TenantIndex tenant{};
  HttpEndpoint kind{};  // that it was made by
  std::string id;       // as its client sees it
};

class KeptStream final : public EventSink {
 public:
  struct Hooks {
    std::function<void(KeptStream&)> on_events;  // the log has grown
    std::function<void(KeptStream&)> on_unread;  // nobody reads (any more), or it ended unread
  };

  // `runs_unread`: its call goes on to its end whoever reads, and refusals are events, too.
  KeptStream(KeptStreamName name, absl::Duration kept_for, bool runs_unread,
             asio::any_io_executor executor, Hooks hooks);

  const KeptStreamName& name() const { return name_; }
  absl::Duration kept_for() const { return kept_for_; }  // unread
  bool runs_unread() const { return runs_unread_; }
  asio::steady_timer& timer() { return timer_; }  // of the time without a reader
  const EventLog& log() const { return log_; }

  // The call's side.
  asio::awaitable<bool> SendEvents(std::string_view events) override;
  asio::awaitable<bool> EndEvents() override;
  asio::awaitable<bool> Fail(const OpenAiError& error) override;
  bool head_sent() const override { return runs_unread_ || head_sent_ || log_.end() > 0; }
  bool gone() const override { return gone_; }
  void OnGone(std::function<void()> on_gone) override { on_gone_ = std::move(on_gone); }
  void StopWatching() override { on_gone_ = nullptr; }

  // The reader's side. `signal` is told of each change while it is the one that reads.
  void Attach(std::shared_ptr<ReadySignal> signal);
  void Detach(const std::shared_ptr<ReadySignal>& signal);
  bool is_read_by(const std::shared_ptr<ReadySignal>& signal) const { return reader_ == signal; }
  bool is_read() const { return reader_ != nullptr; }
  void NoteHeadSent() { head_sent_ = true; }
  void NoteSent(int64_t end) { sent_end_ = end; }  // events before it, to the one that reads
  bool ended() const { return ended_; }
  const std::optional<OpenAiError>& refusal() const { return refusal_; }  // in place of events

  void Cancel();  // its call, and whoever reads; idempotent
  // Forgets an event that need not be kept for who reads now. False: there is none.
  bool DropSent();
  void DropOldest() { log_.DropOldest(); }

 private:
  void Tell();
  void End();

  const KeptStreamName name_;
  const absl::Duration kept_for_;
  const bool runs_unread_;
  const Hooks hooks_;
  asio::steady_timer timer_;
  EventLog log_;
  std::optional<OpenAiError> refusal_;
  std::function<void()> on_gone_;
  std::shared_ptr<ReadySignal> reader_;  // shared with the reader's task
  int64_t sent_end_ = 0;
  bool head_sent_ = false, ended_ = false, gone_ = false;
};

}  // namespace holdfast
