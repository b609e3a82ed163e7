// Text of others as a terminal may have it: one line, in the locale's characters, nothing that
// moves the cursor, turns the direction or takes no room.
//
// Thread: any, after setlocale(LC_CTYPE). Without it, or in the C locale, only ASCII is shown.
#pragma once

#include <string>
#include <string_view>

namespace holdfast {

// `?` for each character that a terminal may not have.
std::string ShownText(std::string_view text);

// Of shown text: the columns that it takes; East Asian characters take two.
int CellsOf(std::string_view shown);
// Of shown text, at most `cells` columns of it; `~` at the end where some is cut off.
std::string CutToCells(std::string_view shown, int cells);

}  // namespace holdfast
