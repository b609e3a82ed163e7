#include "server/http_call.h"

#include <algorithm>
#include <variant>

#include "absl/strings/str_cat.h"
#include "config/base/clock.h"

namespace holdfast {
namespace {

constexpr size_t kWriteBytes = 64 << 10;  // events are gathered up to here before they are written

// Not std::exchange, of which g++ 12 says in a coroutine that it copies a string onto itself.
std::string Taken(std::string& text) {
  std::string taken;
  taken.swap(text);
  return taken;
}

// What went wrong, where this is an end that went wrong.
absl::Status FaultOf(const GenerationEvent& event) {
  const auto* done = std::get_if<GenerationDone>(&event);
  return done == nullptr ? absl::OkStatus() : done->status;
}

}  // namespace

// A function of its own: g++ 12 destroys a braced temporary twice, or fails inside, where a
// coroutine awaits with it.
HttpReply BodyReply(std::string body) { return HttpReply{.body = std::move(body)}; }

HttpReply JsonReply(const Json& json) { return BodyReply(DumpJson(json)); }

std::chrono::steady_clock::time_point DeadlineAfter(absl::Duration timeout) {
  return std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
}

absl::Status TookLongerThan(absl::Duration timeout) {
  return absl::DeadlineExceededError(absl::StrCat("the request took longer than ",
                                                  absl::FormatDuration(timeout),
                                                  "; ask for fewer tokens or try again"));
}

HttpCall::HttpCall(EventSink& sink, std::shared_ptr<ReadySignal> signal, HttpCallTimes times)
    : sink_(sink),
      signal_(std::move(signal)),
      times_(times),
      deadline_(DeadlineAfter(times.timeout)) {}

HttpCall::~HttpCall() {
  sink_.StopWatching();
  Cancel();
}

void HttpCall::Start(GenerationService& service, const Caller& caller, const std::string& wire_id,
                     std::vector<GenerationRequest> requests) {
  for (size_t index = 0; index < requests.size(); ++index) {
    GenerationRequest& request = requests[index];
    request.tenant = caller.tenant;
    request.trace = caller.trace;
    request.wire_id = index == 0 ? wire_id : absl::StrCat(wire_id, "-", index);
    request.arrival = SteadyNow();
  }
  for (auto& stream : service.StartAll(std::move(requests))) {
    prompts_->push_back({.stream = std::move(stream)});
  }
  // Cancelled here and now, not when this task gets its turn again: it may be in a long write.
  sink_.OnGone([this] {
    Cancel();
    signal_->Notify();
  });
}

void HttpCall::Cancel() {
  for (Prompt& prompt : *prompts_) {
    if (!prompt.done) prompt.stream->Cancel();
  }
}

bool HttpCall::AllDone() const {
  return std::all_of(prompts_->begin(), prompts_->end(), [](const Prompt& p) { return p.done; });
}

// Has the signal notified when any unfinished stream has something.
void HttpCall::NotifyAny() {
  for (size_t i = 0; i < prompts_->size(); ++i) {
    Prompt& prompt = (*prompts_)[i];
    if (prompt.done || prompt.waiting) continue;
    prompt.waiting = true;
    prompt.stream->NotifyReady(signal_->Notifier([weak = std::weak_ptr(prompts_), i] {
      if (const auto list = weak.lock()) (*list)[i].waiting = false;
    }));
  }
}

// The next event of `prompt`, if there is one; notes its end.
std::optional<GenerationEvent> HttpCall::Next(size_t prompt) {
  Prompt& one = (*prompts_)[prompt];
  if (one.done) return std::nullopt;
  std::optional<GenerationEvent> event = one.stream->TryNext();
  if (event.has_value() && std::holds_alternative<GenerationDone>(*event)) one.done = true;
  return event;
}

asio::awaitable<void> HttpCall::AnswerAtOnce(HttpExchange& exchange, AnswerBodyWriter& answer) {
  while (!AllDone()) {
    bool any = false;
    for (size_t i = 0; i < prompts_->size(); ++i) {
      while (std::optional<GenerationEvent> event = Next(i)) {
        any = true;
        if (const absl::Status fault = FaultOf(*event); !fault.ok()) {
          Cancel();
          co_await exchange.Fail(ToOpenAiError(fault));
          co_return;
        }
        answer.Add(static_cast<int32_t>(i), std::move(*event));
      }
    }
    if (exchange.gone()) co_return;
    if (any) continue;
    NotifyAny();
    if (!co_await signal_->Wait(deadline_)) {
      Cancel();
      co_await exchange.Fail(ToOpenAiError(TookLongerThan(times_.timeout)));
      co_return;
    }
  }
  co_await exchange.Reply(BodyReply(answer.Finish()));
}

// `sse`: events not yet sent. Before the first of them the error can still be the HTTP status.
asio::awaitable<void> HttpCall::EndWithError(absl::Status status, const AnswerStreamWriter& answer,
                                             std::string sse) {
  Cancel();
  const OpenAiError error = ToOpenAiError(status);
  if (!sink_.head_sent() && sse.empty()) {
    co_await sink_.Fail(error);
    co_return;
  }
  answer.AppendError(error, sse);
  if (co_await sink_.SendEvents(sse)) co_await sink_.EndEvents();
}

asio::awaitable<void> HttpCall::AnswerAsStream(AnswerStreamWriter& answer) {
  std::string sse;
  while (!AllDone()) {
    bool any = false;
    for (size_t i = 0; i < prompts_->size(); ++i) {
      while (std::optional<GenerationEvent> event = Next(i)) {
        any = true;
        if (const absl::Status fault = FaultOf(*event); !fault.ok()) {
          co_await EndWithError(fault, answer, std::move(sse));
          co_return;
        }
        answer.Append(static_cast<int32_t>(i), std::move(*event), sse);
        if (sse.size() < kWriteBytes) continue;
        if (!co_await sink_.SendEvents(Taken(sse))) co_return;
      }
    }
    if (sink_.gone()) co_return;
    if (any && !AllDone()) {
      if (!co_await sink_.SendEvents(Taken(sse))) co_return;
    } else if (!any) {
      NotifyAny();
      const auto silent_until = DeadlineAfter(times_.keep_alive);
      if (co_await signal_->Wait(std::min(deadline_, silent_until))) continue;
      if (silent_until < deadline_) {
        if (!co_await sink_.SendEvents(kKeepAliveComment)) co_return;
        continue;
      }
      co_await EndWithError(TookLongerThan(times_.timeout), answer, std::move(sse));
      co_return;
    }
  }
  answer.AppendEnd(sse);
  if (co_await sink_.SendEvents(sse)) co_await sink_.EndEvents();
}

}  // namespace holdfast
