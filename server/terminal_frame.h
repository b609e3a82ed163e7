// Lines of text as they are to lie on a screen: each cut to its width, and of nothing but what
// terminal_text.h lets through, whoever gave it.
//
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast {

struct FrameSize {
  int width = 80;
  std::optional<int> height = 24;  // nullopt: as many lines as there are
};

enum class Look : uint8_t { kPlain, kTitle, kHeading, kHeld, kPinned, kEvictable, kMoving, kFault };

class FrameLine final {
 public:
  explicit FrameLine(int width) : room_(width) {}

  FrameLine& Add(std::string_view text, Look look = Look::kPlain);

  struct Span {
    std::string text;
    Look look;
  };
  const std::vector<Span>& spans() const { return spans_; }
  int room() const { return room_; }  // columns that are left
  std::string Text() const;

 private:
  std::vector<Span> spans_;
  int room_;
};

using Frame = std::vector<FrameLine>;

// For a file or a pipe: lines without blanks at their ends, no escape sequence.
std::string PlainText(const Frame& frame);

enum class Colour : uint8_t { kNone, kOfLooks };  // kNone: bold and reverse alone
// What draws `frame` over whatever a screen of this height has. Of ECMA-48, what every terminal has
// that anybody uses.
std::string ScreenText(const Frame& frame, int height, Colour colour);

}  // namespace holdfast
