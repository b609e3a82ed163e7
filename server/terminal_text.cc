#include "server/terminal_text.h"

#include <algorithm>
#include <cstddef>
#include <cwchar>
#include <cwctype>

namespace holdfast {
namespace {

struct Character {
  size_t bytes = 1;
  int cells = 0;  // 0: not to be shown
};

// The first of `text`, which is not empty.
Character FirstOf(std::string_view text) {
  std::mbstate_t state{};
  wchar_t wide = 0;
  const size_t bytes = std::mbrtowc(&wide, text.data(), text.size(), &state);
  if (bytes == 0 || bytes > text.size()) return {};  // NUL, or no whole character
  return {.bytes = bytes,
          .cells = std::iswprint(static_cast<wint_t>(wide)) != 0 ? std::max(wcwidth(wide), 0) : 0};
}

}  // namespace

std::string ShownText(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const Character first = FirstOf(text);
    shown += first.cells > 0 ? text.substr(0, first.bytes) : "?";
    text.remove_prefix(first.bytes);
  }
  return shown;
}

int CellsOf(std::string_view shown) {
  int cells = 0;
  while (!shown.empty()) {
    const Character first = FirstOf(shown);
    cells += first.cells;
    shown.remove_prefix(first.bytes);
  }
  return cells;
}

std::string CutToCells(std::string_view shown, int cells) {
  if (CellsOf(shown) <= cells) return std::string(shown);
  std::string cut;
  for (int room = cells - 1; !shown.empty();) {
    const Character first = FirstOf(shown);
    if (first.cells > room) break;
    room -= first.cells;
    cut += shown.substr(0, first.bytes);
    shown.remove_prefix(first.bytes);
  }
  return cells > 0 ? cut + "~" : "";
}

}  // namespace holdfast
