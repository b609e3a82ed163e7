// Accepts connections and turns their bytes into requests, one after the other; refuses what is
// malformed, too large or too slow before any endpoint sees it.
//
//   accept --> [TLS] --> idle --first byte--> header --> route, key, readiness --> body -->
//   endpoint
//                         ^                                                                  |
//                         +------------------------- keep-alive -----------------------------+
//
// A request is refused from its header alone where that is possible, so that nobody without a key
// uploads a body. Length and chunked encoding together, any other transfer encoding, and a missing
// or second Host are refused: two readers would see two requests.
//
// Thread: the I/O thread's alone, but for num_requests.
// Bound: connections_max, header_bytes_max, body_bytes_max, bodies_bytes_max, and a time for each
// wait.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_set>

#include "absl/random/random.h"
#include "absl/status/statusor.h"
#include "server/authenticator.h"
#include "server/http_exchange.h"
#include "server/http_metrics.h"
#include "server/http_router.h"
#include "server/http_server.h"

namespace holdfast {

class HttpListener final {
 public:
  using Endpoints = std::function<asio::awaitable<void>(HttpExchange&)>;

  struct Hooks {
    Endpoints endpoints;  // answers an accepted request
    std::function<Readiness()> readiness;
    std::function<void(int)> on_in_flight;  // +1 and -1
    std::function<void()> on_all_gone;      // once, after Close: no connection is left
  };

  // What is passed by reference must outlive the listener, which is at options.address.
  HttpListener(asio::io_context& io, HttpDoor door, const HttpServerOptions& options,
               const Authenticator& authenticator, HttpMetrics& metrics, Hooks hooks);

  // Binds, listens, and begins to accept once the io_context runs.
  absl::Status Listen();
  int port() const { return port_; }
  void Close();  // stops accepting and cuts every connection

 private:
  class Connection;
  class BodyLease;
  class InFlight;

  absl::Status LoadTls();
  asio::awaitable<void> Accept();
  void Take(asio::ip::tcp::socket socket);
  asio::awaitable<void> Serve(std::shared_ptr<Conn> conn);
  void Spawn(asio::awaitable<void> task, std::shared_ptr<Conn> conn);
  void TellIfAllGone();
  void RefuseConnection(asio::ip::tcp::socket socket);
  std::string MakeRequestId();

  asio::io_context& io_;
  const HttpDoor door_;
  const HttpServerOptions& options_;
  const Authenticator& authenticator_;
  HttpMetrics& metrics_;
  const Hooks hooks_;
  std::optional<asio::ssl::context> tls_;
  asio::ip::tcp::acceptor acceptor_;
  asio::steady_timer accept_pause_;
  std::unordered_set<std::shared_ptr<Conn>> conns_;  // shared with each connection's own task
  size_t body_bytes_held_ = 0;
  absl::BitGen random_;
  int port_ = 0;
  bool closed_ = false;
};

}  // namespace holdfast
