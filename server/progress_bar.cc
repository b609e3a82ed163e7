#include "server/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "config/base/clock.h"
#include "config/base/concat.h"

namespace holdfast {
namespace {

constexpr size_t kWidth = 30;
constexpr absl::Duration kBetweenLines = absl::Milliseconds(100);

void Draw(const std::string& line) {
  const std::string text = Concat("\r", line, "\x1b[K");  // and clears what was longer before
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

ProgressBar::ProgressBar(std::string what)
    : what_(std::move(what)),
      shown_(isatty(STDERR_FILENO) == 1),
      begin_(SteadyNow()),
      last_drawn_(absl::InfinitePast()) {}

ProgressBar::~ProgressBar() {
  if (shown_) Draw("");
}

void ProgressBar::Show(double share) {
  if (!shown_) return;
  const absl::Time now = SteadyNow();
  if (now - last_drawn_ < kBetweenLines) return;
  last_drawn_ = now;
  Draw(ProgressLine(what_, share, now - begin_));
}

std::string ProgressLine(const std::string& what, double share, absl::Duration elapsed) {
  share = std::clamp(share, 0.0, 1.0);
  const auto filled = static_cast<size_t>(std::llround(share * kWidth));
  const std::string percent = Concat(std::llround(100 * share), " %");
  std::string line =
      Concat(what, " [", std::string(filled, '#'), std::string(kWidth - filled, ' '), "] ",
             std::string(5 - std::min<size_t>(percent.size(), 5), ' '), percent);
  if (share >= 0.01 && share < 1) {
    const absl::Duration left = elapsed * ((1 - share) / share);
    line += Concat("  ", absl::FormatDuration(absl::Trunc(left, absl::Seconds(1))), " left");
  }
  return line;
}

}  // namespace holdfast
