// `holdfast top`: what the page's live view shows, in a terminal, by the same endpoints.
//
//   /admin/v1/{queue,kv,pins} ─► TopState ─┐
//                                          ├─► TopView ─► Frame ─► terminal, or text
//   /metrics ──► TopHistory ──► TopRates ──┘
//
// A terminal is drawn over until `q` or a signal; elsewhere frames follow one another as text. A
// daemon that does not answer is said, and asked again.
//
// Thread: the caller's, which waits. Bound: four answers of a daemon at a time.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "config/daemon_config.h"
#include "server/command_line.h"
#include "server/terminal_frame.h"

namespace holdfast {

struct TopScreen {
  enum class Kind : uint8_t { kText, kTerminal };  // kTerminal: one that knows escape sequences
  Kind kind = Kind::kText;
  Colour colour = Colour::kNone;
};

// `screen` is what standard output is.
absl::Status RunTop(const CommandLine& line, const DaemonConfig& config, const TopScreen& screen);

}  // namespace holdfast
