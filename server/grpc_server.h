// The gRPC port: the services of proto/holdfast/v1 with health and reflection beside them.
//
//   Create --> serving --BeginDrain--> draining --Shutdown--> stopped
//
// Health (grpc.health.v1) says SERVING for "" and "holdfast.v1.Generation" while readiness is
// kReady, else NOT_SERVING; calls are then refused with UNAVAILABLE, or, once it drains, not taken
// at all (GOAWAY). Health and reflection need no key: they tell nothing of a tenant.
//
// Thread: all members by any; Shutdown is not for a gRPC thread. Calls run on gRPC's own threads.
// Bound: kRequestBodyBytesMax a message, kRequestHeaderBytesMax metadata, kGrpcStreamsMax calls a
// connection, GrpcServerOptions::calls_max calls of Generation and Batches in all (beyond:
// RESOURCE_EXHAUSTED with retry-after), and 256 MiB of memory for what all connections hold in
// messages on their way; answers wait in GenerationStream, which is bounded, and a client has
// write_timeout to take one write or the end of its call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/daemon_config.h"
#include "config/limits.h"
#include "server/authenticator.h"
#include "server/generation.h"

namespace holdfast {

class BackgroundService;  // server/background_service.h
class KvAdmin;            // server/admin.h
class Tracer;             // server/tracer.h

// Of the calls that move a file. At least 8 MiB of it, or its end, come within `part_timeout`.
struct FileCallBounds {
  int64_t file_bytes_max = int64_t{100} << 20;
  absl::Duration part_timeout = absl::Seconds(60);
};

struct GrpcServerOptions {
  std::string address = "127.0.0.1:50051";  // ADDR:PORT or [V6]:PORT; port 0: the system picks
  std::optional<TlsConfig> tls;
  int64_t calls_max = 4096;  // of Generation and Batches at a time, over all connections
  // In which a client takes one write, or the end of its call; else it is cancelled.
  absl::Duration write_timeout = absl::Milliseconds(kWriteMsMax);
  // What the Admin service speaks of; must outlive the server. Null: there is no such service.
  const KvAdmin* kv_admin = nullptr;
  // What the Batches service asks; must outlive the server. Null: nothing is kept.
  BackgroundService* background = nullptr;
  FileCallBounds files;
  // Where calls are traced; must outlive the server. Null: they are not.
  Tracer* tracer = nullptr;
};

class GrpcServer {
 public:
  // Binds and serves. What is passed by reference must outlive the server; `readiness` is called
  // on gRPC's threads. kInvalidArgument: bad TLS files; kUnavailable: the port cannot be had.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Create(GrpcServerOptions options,
                                                            GenerationService& service,
                                                            const Authenticator& authenticator,
                                                            std::function<Readiness()> readiness);
  virtual ~GrpcServer() = default;  // as Shutdown at once

  virtual int port() const = 0;
  // Tells the health service's watchers; calls ask `readiness` themselves.
  virtual void SetReadiness(Readiness readiness) = 0;
  // SetReadiness(kDraining), closes the port, and tells clients (GOAWAY) to ask elsewhere next;
  // calls that run go on.
  virtual void BeginDrain() = 0;
  // No new calls; waits for what runs until `deadline`, then cancels it. Idempotent.
  virtual void Shutdown(absl::Time deadline) = 0;
};

}  // namespace holdfast
