// The OpenAI-compatible HTTP front: one port, or one more for administrators, one I/O thread, every
// endpoint. Takes a
// GenerationService and knows nothing of what is behind it.
//
//   Create --> serving --BeginDrain--> draining --Stop (or destructor)--> stopped
//
// serving:   requests are answered; keep-alive, pipelined requests one after the other.
// draining:  still accepts, so that /health/ready can say 503; new work is refused with 503, what
//            runs finishes, and every answer closes its connection.
// stopped:   all connections are cut and their generations cancelled; the thread is joined.
//
// Thread: all members by any thread, except that Stop and the destructor are not for the I/O
// thread. Bound: connections, header and body bytes, all bodies together, and the time of every
// wait.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/base/metrics.h"
#include "config/daemon_config.h"
#include "config/limits.h"
#include "server/authenticator.h"
#include "server/generation.h"
#include "server/kept_stream_options.h"
#include "server/trace_context.h"

namespace holdfast {

class BackgroundService;  // server/background_service.h
class KvAdmin;            // server/admin.h
class Tracer;             // server/tracer.h
struct UiFile;            // server/ui_files.h

// One answered request, for the access log. No header, query or body text.
struct HttpAccess {
  const char* method = "";
  const char* route = "";  // the route's template, "/v1/models/{id}"; "other" for an unknown path
  int code = 0;            // 499: the client was gone before the answer
  std::string request_id;
  std::optional<TenantIndex> tenant;  // kAdministrator too; absent: not authenticated
  absl::Time begin;                   // by SteadyNow: the header is complete
  absl::Duration elapsed;             // from then to the last byte handed to the kernel
  int64_t body_bytes = 0;             // of the request
  std::optional<TraceContext> trace;  // whose span is the request; absent: nobody traces
  std::optional<SpanId> trace_parent;
};

struct HttpServerOptions {
  std::string address = "127.0.0.1:8080";  // ADDR:PORT or [V6]:PORT; port 0: the system picks
  std::optional<TlsConfig> tls;
  std::string version = "0.1.0";   // for /version
  std::string system_fingerprint;  // short model digest, shown in answers; empty: left out

  // Answer /metrics to every peer; else to those on loopback alone. Never by key: it counts all
  // tenants.
  bool metrics_for_all = false;

  // For a server without keys, which trusts whoever reaches loopback: refuse (403) a request whose
  // Host or Origin names another machine, as a web page's would. Not /health, /version,
  // /openapi.json and the page at /ui, which tell nothing and are asked by probes and balancers
  // under other names, nor /metrics with metrics_for_all.
  bool loopback_names_only = false;

  int32_t connections_max = 1024;  // beyond it: 503 and closed
  size_t header_bytes_max = kRequestHeaderBytesMax;
  size_t body_bytes_max = kRequestBodyBytesMax;
  size_t upload_bytes_max = size_t{100} << 20;  // of a file's upload, with its form
  size_t bodies_bytes_max = size_t{512} << 20;  // of all connections together; beyond it: 503

  absl::Duration header_timeout = absl::Seconds(10);  // first byte to end of header; TLS handshake
  absl::Duration body_timeout = absl::Seconds(60);    // end of header to end of body
  absl::Duration idle_timeout = absl::Seconds(75);    // between requests of one connection
  // One write; a stalled reader is cancelled.
  absl::Duration write_timeout = absl::Milliseconds(kWriteMsMax);
  absl::Duration request_timeout = absl::Minutes(10);    // end of body to end of answer: 504
  absl::Duration stream_keep_alive = absl::Seconds(15);  // without an event: a comment

  KeptStreamOptions kept_streams;

  // What /admin/v1 speaks of; must outlive the server. Null: there is no such thing (404).
  const KvAdmin* kv_admin = nullptr;

  // A port for /admin/v1 alone, with keys of its own; `authenticator` must outlive the server.
  // Absent: it is on the port above, for tenants' keys.
  struct AdminPort {
    std::string address;
    const Authenticator* authenticator = nullptr;
  };
  std::optional<AdminPort> admin;

  // Files, batches and kept responses; must outlive the server. Null: there are none.
  BackgroundService* background = nullptr;

  // The page at /ui, of this program or, for tests, another; must outlive the server.
  std::span<const UiFile> ui;

  // Where requests are traced; must outlive the server. Null: they are not.
  Tracer* tracer = nullptr;

  // Called on the I/O thread after each request; must not block. Optional.
  std::function<void(const HttpAccess&)> on_access;
};

class HttpServer {
 public:
  // Binds, listens and starts the I/O thread. What is passed by reference must outlive the server;
  // `readiness` is called on the I/O thread. kInvalidArgument: bad address or TLS files;
  // kUnavailable: the port is taken.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Create(HttpServerOptions options,
                                                            GenerationService& service,
                                                            const Authenticator& authenticator,
                                                            MetricsRegistry& metrics,
                                                            std::function<Readiness()> readiness);
  virtual ~HttpServer() = default;  // stops

  virtual int port() const = 0;
  virtual int admin_port() const = 0;  // 0: there is none
  virtual void BeginDrain() = 0;
  // True: no request is in progress. Waits until then, at most until `deadline`.
  virtual bool WaitIdle(absl::Time deadline) = 0;
  virtual void Stop() = 0;  // idempotent
};

}  // namespace holdfast
