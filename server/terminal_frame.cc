#include "server/terminal_frame.h"

#include <algorithm>
#include <cstddef>

#include "config/base/concat.h"
#include "server/terminal_text.h"

namespace holdfast {
namespace {

// Parameters of SGR; empty: as everything.
std::string_view SgrOf(Look look, Colour colour) {
  switch (look) {
    case Look::kPlain:
      return "";
    case Look::kTitle:
      return "1";
    case Look::kHeading:
      return "7";
    case Look::kFault:
      return colour == Colour::kNone ? "1" : "1;31";
    case Look::kHeld:
      return colour == Colour::kNone ? "" : "32";
    case Look::kPinned:
      return colour == Colour::kNone ? "" : "33";
    case Look::kEvictable:
      return colour == Colour::kNone ? "" : "36";
    case Look::kMoving:
      return colour == Colour::kNone ? "" : "35";
  }
  return "";
}

}  // namespace

FrameLine& FrameLine::Add(std::string_view text, Look look) {
  std::string shown = CutToCells(ShownText(text), room_);
  room_ -= CellsOf(shown);
  if (!shown.empty()) spans_.push_back({.text = std::move(shown), .look = look});
  return *this;
}

std::string FrameLine::Text() const {
  std::string text;
  for (const Span& span : spans_) text += span.text;
  return text;
}

std::string PlainText(const Frame& frame) {
  std::string text;
  for (const FrameLine& line : frame) {
    text += line.Text();
    text.resize(text.find_last_not_of(' ') + 1);
    text += "\n";
  }
  return text;
}

std::string ScreenText(const Frame& frame, int height, Colour colour) {
  std::string text;
  const size_t rows = std::min(frame.size(), static_cast<size_t>(std::max(height, 0)));
  for (size_t i = 0; i < rows; ++i) {
    text += Concat("\x1b[", i + 1, "H\x1b[K");
    for (const FrameLine::Span& span : frame[i].spans()) {
      const std::string_view sgr = SgrOf(span.look, colour);
      text += sgr.empty() ? span.text : Concat("\x1b[", sgr, "m", span.text, "\x1b[m");
    }
  }
  if (rows < static_cast<size_t>(std::max(height, 0))) text += Concat("\x1b[", rows + 1, "H\x1b[J");
  return text;
}

}  // namespace holdfast
