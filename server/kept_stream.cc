#include "server/kept_stream.h"

#include <utility>

namespace holdfast {

KeptStream::KeptStream(KeptStreamName name, absl::Duration kept_for, bool runs_unread,
                       asio::any_io_executor executor, Hooks hooks)
    : name_(std::move(name)),
      kept_for_(kept_for),
      runs_unread_(runs_unread),
      hooks_(std::move(hooks)),
      timer_(std::move(executor)) {}

void KeptStream::Tell() {
  if (reader_ != nullptr) reader_->Notify();
}

asio::awaitable<bool> KeptStream::SendEvents(std::string_view events) {
  if (gone_) co_return false;
  log_.Append(events);
  hooks_.on_events(*this);  // which may cancel it
  Tell();
  co_return !gone_;
}

asio::awaitable<bool> KeptStream::EndEvents() {
  if (!gone_) End();
  co_return !gone_;
}

asio::awaitable<bool> KeptStream::Fail(const OpenAiError& error) {
  if (gone_) co_return false;
  refusal_ = error;
  End();
  co_return true;
}

void KeptStream::End() {
  ended_ = true;
  if (reader_ == nullptr) hooks_.on_unread(*this);
  Tell();
}

void KeptStream::Attach(std::shared_ptr<ReadySignal> signal) {
  Tell();  // whoever read it until now
  timer_.cancel();
  reader_ = std::move(signal);
  sent_end_ = log_.begin();
}

void KeptStream::Detach(const std::shared_ptr<ReadySignal>& signal) {
  if (reader_ != signal) return;
  reader_ = nullptr;
  if (!gone_) hooks_.on_unread(*this);
}

void KeptStream::Cancel() {
  if (std::exchange(gone_, true)) return;
  timer_.cancel();
  if (const auto on_gone = std::exchange(on_gone_, nullptr)) on_gone();
  Tell();
}

bool KeptStream::DropSent() {
  if (reader_ == nullptr || log_.begin() >= sent_end_) return false;
  log_.DropOldest();
  return true;
}

}  // namespace holdfast
