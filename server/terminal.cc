#include "server/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string_view>

namespace holdfast {
namespace {

// The alternate screen, no cursor, and no going on in the next line at the end of one.
constexpr std::string_view kTake = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view kGiveBack = "\x1b[?7h\x1b[?25h\x1b[?1049l";

// What cannot be written is lost with the terminal.
void Write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EAGAIN) {  // as others may have left it
      pollfd room{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
      poll(&room, 1, -1);
    } else if (written < 0 && errno != EINTR) {
      return;
    }
    if (written > 0) text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

std::optional<FrameSize> TerminalSize() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return std::nullopt;
  if (size.ws_col == 0 || size.ws_row == 0) return FrameSize{};  // a serial line knows none
  return FrameSize{.width = size.ws_col, .height = size.ws_row};
}

// Opened anew: that nobody else's reads stop waiting by O_NONBLOCK, and keys come even where
// standard input is something else.
Terminal::Terminal(Colour colour)
    : colour_(colour), keys_(open("/dev/tty", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  Take();
}

Terminal::~Terminal() {
  GiveBack();
  if (keys_ >= 0) close(keys_);
}

FrameSize Terminal::size() const { return TerminalSize().value_or(FrameSize{}); }

void Terminal::Show(const Frame& frame) {
  Write(ScreenText(frame, size().height.value_or(0), colour_));
}

std::optional<std::string> Terminal::ReadKeys() {
  std::string keys(256, '\0');
  const ssize_t length = read(keys_, keys.data(), keys.size());
  if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR)) return std::nullopt;
  keys.resize(length > 0 ? static_cast<size_t>(length) : 0);
  return keys;
}

void Terminal::Take() {
  termios now{};
  if (keys_ >= 0 && tcgetattr(keys_, &now) == 0) {
    before_ = now;
    now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    tcsetattr(keys_, TCSANOW, &now);
  }
  Write(kTake);
}

void Terminal::GiveBack() {
  Write(kGiveBack);
  if (before_) tcsetattr(keys_, TCSANOW, &*before_);
  before_.reset();
}

}  // namespace holdfast
