#include "server/top.h"

#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "config/base/clock.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/http_client.h"
#include "server/terminal.h"
#include "server/terminal_text.h"
#include "server/top_frame.h"
#include "server/top_options.h"
#include "server/top_rates.h"
#include "server/top_state.h"

namespace holdfast {
namespace {

namespace asio = boost::asio;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr int kTextWidth = 120;  // of a file or a pipe, which has none

// What an answer other than 200 says, and what to do about it.
absl::Status Refusal(const TopOptions& options, const HttpAnswer& answer) {
  constexpr int kToldCellsMax = 400;  // and nothing in it steers a terminal
  const std::string told = CutToCells(ShownText(ReadTopError(answer.body)), kToldCellsMax);
  const std::string message =
      Concat(options.url, ": ", told.empty() ? Concat("status ", answer.status) : told);
  switch (answer.status) {
    case 401:
      return absl::UnauthenticatedError(
          Concat(message, options.has_key ? "; is the key of --key-file for this port?"
                                          : "; name a file with a key: --key-file FILE"));
    case 403:
      return absl::PermissionDeniedError(message);
    case 404:
      return absl::NotFoundError(
          Concat(message, "; the daemon may have a port for administrators (`admin.http`): --url"));
    default:
      return absl::UnavailableError(message);
  }
}

bool IsFinal(const absl::Status& status) { return !status.ok() && !absl::IsUnavailable(status); }

// Looks at a daemon, and keeps what it saw.
class TopLooks final {
 public:
  explicit TopLooks(const TopOptions& options) : options_(options) {
    view_.title = options.url;
    view_.fault = "asking the daemon";
  }

  // OK: `view` has the daemon's state of now.
  asio::awaitable<absl::Status> Look() {
    const absl::Status seen = co_await LookAtState();
    view_.fault = seen.ok() ? "" : Concat(seen.message(), "; asking again");
    if (!seen.ok()) co_return seen;
    const absl::StatusOr<std::string> metrics = co_await Ask("/metrics");
    view_.rates_fault = metrics.ok() ? "" : std::string(metrics.status().message());
    if (metrics.ok()) view_.rates = history_.Add(ReadTopReading(*metrics, SteadyNow()));
    co_return absl::OkStatus();
  }

  TopView& view() { return view_; }

 private:
  asio::awaitable<absl::StatusOr<std::string>> Ask(const char* target) {
    HttpQuestion question = options_.daemon;
    question.target = target;
    absl::StatusOr<HttpAnswer> answer = co_await AskHttpAsync(std::move(question));
    if (!answer.ok()) {
      co_return absl::UnavailableError(
          Concat(answer.status().message(), "; is holdfast serve running there?"));
    }
    if (answer->status != 200) co_return Refusal(options_, *answer);
    co_return std::move(answer->body);
  }

  asio::awaitable<absl::Status> LookAtState() {
    const absl::StatusOr<std::string> queue = co_await Ask("/admin/v1/queue");
    if (!queue.ok()) co_return queue.status();
    const absl::StatusOr<std::string> kv = co_await Ask("/admin/v1/kv");
    if (!kv.ok()) co_return kv.status();
    const absl::StatusOr<std::string> pins = co_await Ask("/admin/v1/pins");
    if (!pins.ok()) co_return pins.status();
    absl::StatusOr<TopState> state = ReadTopState(*queue, *kv, *pins);
    if (!state.ok())
      co_return absl::DataLossError(Concat(options_.url, ": ", state.status().message()));
    view_.state = *std::move(state);
    co_return absl::OkStatus();
  }

  const TopOptions& options_;
  TopView view_;
  TopHistory history_;
};

asio::awaitable<void> Sleep(absl::Duration time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, absl::ToChronoNanoseconds(time));
  co_await timer.async_wait(kAwait);
}

absl::Status Print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "standard output takes no more");
}

// One frame, with the rates of one interval.
asio::awaitable<absl::Status> ShowOnce(const TopOptions& options, TopLooks& looks) {
  absl::Status seen = co_await looks.Look();
  if (seen.ok() && looks.view().rates_fault.empty()) {
    co_await Sleep(options.interval);
    seen = co_await looks.Look();
  }
  if (!seen.ok()) co_return seen;
  const int width = TerminalSize().value_or(FrameSize{.width = kTextWidth}).width;
  co_return Print(PlainText(DrawTop(looks.view(), {.width = width, .height = std::nullopt})));
}

// Frames below one another until output takes no more.
asio::awaitable<absl::Status> ShowAsText(const TopOptions& options, TopLooks& looks) {
  for (bool first = true;; first = false) {
    const absl::Status seen = co_await looks.Look();
    if (first && IsFinal(seen)) co_return seen;
    const FrameSize size{.width = kTextWidth, .height = std::nullopt};
    const absl::Status printed =
        Print(Concat(first ? "" : "\n", PlainText(DrawTop(looks.view(), size))));
    if (!printed.ok()) co_return printed;
    co_await Sleep(options.interval);
  }
}

// A terminal with frames on it, until `q` or a signal.
class TopTerminal final {
 public:
  TopTerminal(const TopOptions& options, TopLooks& looks, Colour colour, asio::io_context& io)
      : options_(options), looks_(looks), io_(io), terminal_(colour) {
    looks.view().hint = Concat("every ", TimeText(options.interval), ", q quits");
  }

  // Each of them ends the others by stopping `io`.
  asio::awaitable<absl::Status> ShowFrames() {
    Show();
    for (bool first = true;; first = false) {
      const absl::Status seen = co_await looks_.Look();
      if (first && IsFinal(seen)) co_return seen;
      Show();
      co_await Sleep(options_.interval);
    }
  }

  asio::awaitable<void> HearKeys() {
    if (terminal_.keys() < 0) co_return;
    asio::posix::stream_descriptor keys(io_, dup(terminal_.keys()));
    while (true) {
      co_await keys.async_wait(asio::posix::stream_descriptor::wait_read, kAwait);
      const std::optional<std::string> pressed = terminal_.ReadKeys();
      if (!pressed || pressed->find_first_of("qQ") != std::string::npos) co_return io_.stop();
    }
  }

  asio::awaitable<void> HearSignals() {
    asio::signal_set signals(io_, SIGINT, SIGTERM, SIGHUP);
    signals.add(SIGWINCH);
    signals.add(SIGTSTP);
    while (true) {
      const auto [error, signal] = co_await signals.async_wait(kAwait);
      if (signal != SIGWINCH && signal != SIGTSTP) co_return io_.stop();
      if (signal == SIGTSTP) {
        terminal_.GiveBack();
        signals.remove(SIGTSTP);
        raise(SIGTSTP);  // and here it goes on, after `fg`
        signals.add(SIGTSTP);
        terminal_.Take();
      }
      Show();
    }
  }

 private:
  void Show() { terminal_.Show(DrawTop(looks_.view(), terminal_.size())); }

  const TopOptions& options_;
  TopLooks& looks_;
  asio::io_context& io_;
  Terminal terminal_;
};

}  // namespace

absl::Status RunTop(const CommandLine& line, const DaemonConfig& config, const TopScreen& screen) {
  ASSIGN_OR_RETURN(const TopOptions options, TopOptionsOf(line, config));
  TopLooks looks(options);
  absl::Status shown;
  asio::io_context io(1);
  const auto run = [&](asio::awaitable<absl::Status> frames) {
    asio::co_spawn(
        io, std::move(frames), [&](const std::exception_ptr& thrown, absl::Status status) {
          shown = thrown ? absl::InternalError("top: an exception ended it") : std::move(status);
          io.stop();
        });
    io.run();
  };
  if (options.frames == TopOptions::Frames::kOnce) {
    run(ShowOnce(options, looks));
  } else if (screen.kind == TopScreen::Kind::kText) {
    run(ShowAsText(options, looks));
  } else {
    TopTerminal terminal(options, looks, screen.colour, io);
    asio::co_spawn(io, terminal.HearKeys(), asio::detached);
    asio::co_spawn(io, terminal.HearSignals(), asio::detached);
    run(terminal.ShowFrames());
  }
  return shown;
}

}  // namespace holdfast
