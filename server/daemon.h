// The daemon from settings to exit code: chooses the parts, wires them, and stops them in order.
//
//   model's metadata ─► ports open (live 200, ready 503) ─► tokenizer, weights ─► ready (200)
//      ─► SIGTERM or SIGINT ─► leaving (ready 503, requests are still taken, for drain_notice)
//      ─► draining (new requests 503, what runs finishes, at most drain_timeout) ─► 0
//
// SIGHUP reads the settings again: what can take effect does, in the threads that it concerns and
// so within a step; what cannot is told in the log, as is a fault, with which nothing has changed.
//
// A second signal ends the process at once (exit 1), unless it comes so soon that it is the same
// wish (kSameStopWish); a signal while loading ends it at once too (exit 0: nothing has been
// accepted).
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/daemon_config.h"

namespace holdfast {

struct DaemonOptions {
  DaemonConfig config;
  std::string version;    // "0.1.0"
  std::string port_file;  // empty: none. Written once ready, {"http":N,"grpc":N}; grpc 0: none
  // The settings as they are now written, checked whole, for SIGHUP. Null: no file to read again.
  std::function<absl::StatusOr<DaemonConfig>()> read_config = nullptr;
};

// Runs until it is told to stop. Call CheckStart and BlockSignals first, the latter before any
// thread exists. An error is
// one that prevented the start: what was wanted, what was found and what to do.
absl::Status RunDaemon(const DaemonOptions& options);

}  // namespace holdfast
