// Rows under headings, as wide as a terminal lets them be. Text is cut at kTextCellsMax columns,
// and down to kTextCellsMin, or its heading, where there is no room; then columns are left out from
// the right.
//
// Thread: any; pure.
#pragma once

#include <string>
#include <vector>

#include "server/terminal_frame.h"

namespace holdfast {

inline constexpr int kTextCellsMin = 12, kTextCellsMax = 40;

struct TextTable {
  enum class Kind : uint8_t { kText, kNumber };  // kNumber: to the right, never cut
  struct Column {
    std::string heading;
    Kind kind = Kind::kText;
  };
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // a cell for each column
};

// The headings' line, then one for each row.
Frame DrawTable(const TextTable& table, int width);

}  // namespace holdfast
