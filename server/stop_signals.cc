#include "server/stop_signals.h"

#include <pthread.h>
#include <signal.h>

#include <functional>
#include <thread>
#include <utility>

#include "config/base/check.h"

namespace holdfast {
namespace {

sigset_t WaitedSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, SIGRTMIN);  // our own: the end of the waiting thread
  return set;
}

}  // namespace

StopWish StopWishes::Next() {
  const absl::Time now = clock_.Now();
  if (!first_) {
    first_ = now;
    return StopWish::kStop;
  }
  // A clock that was set back must not make the wish unheard.
  const bool is_same = now >= *first_ && now - *first_ < kSameStopWish;
  return is_same ? StopWish::kSame : StopWish::kAtOnce;
}

void BlockSignals() {
  const sigset_t set = WaitedSignals();
  CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  CHECK(sigaction(SIGPIPE, &ignore, nullptr) == 0);
}

StopSignals::StopSignals(std::function<void(int)> on_signal) : on_signal_(std::move(on_signal)) {
  thread_ = std::thread([this] { Run(); });
}

StopSignals::~StopSignals() {
  pthread_kill(thread_.native_handle(), SIGRTMIN);
  thread_.join();
}

void StopSignals::Run() {
  const sigset_t set = WaitedSignals();
  while (true) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0) continue;
    if (signal == SIGRTMIN) return;
    on_signal_(signal);
  }
}

}  // namespace holdfast
