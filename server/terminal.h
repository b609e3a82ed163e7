// The terminal of standard output, taken for as long as this lives: frames on its alternate screen,
// keys that are read as they are pressed and not shown. Given back, it is as it was.
//
// By plain ECMA-48 sequences: curses would bring its database of terminals into an image that has
// nothing but the program, for eight sequences that are the same in all of them.
//
// Thread: one at a time.
#pragma once

#include <termios.h>

#include <optional>
#include <string>

#include "server/terminal_frame.h"

namespace holdfast {

class Terminal final {
 public:
  explicit Terminal(Colour colour);
  ~Terminal();
  Terminal(const Terminal&) = delete;

  FrameSize size() const;
  void Show(const Frame& frame);

  // Where keys come from, ready to be waited for; -1: there are none.
  int keys() const { return keys_; }
  std::optional<std::string> ReadKeys();  // those that are there; nullopt: the terminal is gone

  void GiveBack();
  void Take();

 private:
  const Colour colour_;
  int keys_ = -1;
  std::optional<termios> before_;
};

// Of standard output, where it is a terminal.
std::optional<FrameSize> TerminalSize();

}  // namespace holdfast
