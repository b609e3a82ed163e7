// One line on a terminal that says how far a long run is, drawn over itself; nothing where standard
// error is no terminal.
//
// Thread: one at a time.
#pragma once

#include <string>

#include "absl/time/time.h"

namespace holdfast {

class ProgressBar final {
 public:
  explicit ProgressBar(std::string what);
  ~ProgressBar();  // leaves the line empty
  ProgressBar(const ProgressBar&) = delete;

  void Show(double share);  // in [0, 1]; drawn ten times a second at most

 private:
  const std::string what_;
  const bool shown_;
  absl::Time begin_, last_drawn_;
};

// "simulate [##########          ]  50 %  1m2s left"
std::string ProgressLine(const std::string& what, double share, absl::Duration elapsed);

}  // namespace holdfast
