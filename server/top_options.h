// What `holdfast top` is asked for: which daemon, with what key, how often.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/daemon_config.h"
#include "server/command_line.h"
#include "server/http_client.h"

namespace holdfast {

struct TopOptions {
  enum class Frames : uint8_t { kUntilStopped, kOnce };
  std::string url;      // as it is shown
  HttpQuestion daemon;  // all but its target
  bool has_key = false;
  absl::Duration interval = absl::Seconds(2);
  Frames frames = Frames::kUntilStopped;
};

// --url, or else the daemon that `config` has here: its port for administrators where it has one.
// kInvalidArgument: no such daemon, or a key that would go over a network for all to read.
absl::StatusOr<TopOptions> TopOptionsOf(const CommandLine& line, const DaemonConfig& config);

}  // namespace holdfast
