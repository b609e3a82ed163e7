// What HTTP endpoints ask of the background thread (background_service.h), and how lists of what is
// kept are asked for.
//
// Thread: the I/O thread's alone; `work` runs on the background thread.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/background_service.h"
#include "server/http_call.h"
#include "server/http_exchange.h"

namespace holdfast {

// What `work(state, caller)` answers, a StatusOr<Result>. nullopt as AskWorker's.
template <typename Result, typename Work>
asio::awaitable<std::optional<Result>> AskState(HttpExchange& exchange,
                                                const std::shared_ptr<IoGate>& gate,
                                                absl::Duration timeout,
                                                BackgroundService& background, Work work) {
  const auto start = [&background, &work](const TextCaller& caller, auto done) {
    const auto shared = std::make_shared<decltype(done)>(std::move(done));
    const bool asked =
        background.Ask([work = std::move(work), shared, caller](State& state) mutable {
          (*shared)(work(state, caller));
        });
    if (!asked) (*shared)(TooBusyForState());
  };
  co_return co_await AskWorker<Result>(exchange, gate, timeout, start);
}

// The query's `after`, `limit` (by default `limit`, at most `most`) and `order`.
absl::StatusOr<ListWish> ReadListWish(const HttpRequest& request, int64_t limit, int64_t most);

}  // namespace holdfast
