#include "server/text_table.h"

#include <algorithm>
#include <cstddef>

#include "server/terminal_text.h"

namespace holdfast {
namespace {

constexpr int kGap = 1;

struct Width {
  int cells = 0, least = 0;
  bool is_text = false;
};

std::vector<Width> WidthsOf(const TextTable& table) {
  std::vector<Width> widths;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    const TextTable::Column& column = table.columns[i];
    Width& width = widths.emplace_back();
    width.is_text = column.kind == TextTable::Kind::kText;
    const int heading = CellsOf(ShownText(column.heading));
    width.cells = heading;
    for (const auto& row : table.rows) {
      width.cells = std::max(width.cells, CellsOf(ShownText(row[i])));
    }
    if (width.is_text) width.cells = std::min(width.cells, kTextCellsMax);
    width.least =
        width.is_text ? std::min(width.cells, std::max(heading, kTextCellsMin)) : width.cells;
  }
  return widths;
}

// The first columns that fit, the widest texts cut until they do. The first one always stays.
void Fit(std::vector<Width>& widths, int room) {
  size_t kept = 0;
  for (int least = -kGap; kept < widths.size(); ++kept) {
    least += kGap + widths[kept].least;
    if (kept > 0 && least > room) break;
  }
  widths.resize(kept);
  int over = -kGap - room;
  for (const Width& width : widths) over += kGap + width.cells;
  for (; over > 0; --over) {
    Width* widest = nullptr;
    for (Width& width : widths) {
      if (width.cells <= width.least) continue;
      if (widest == nullptr || width.cells > widest->cells) widest = &width;
    }
    if (widest == nullptr) return;  // the line cuts the one that is left
    --widest->cells;
  }
}

FrameLine DrawRow(const std::vector<std::string>& cells, const std::vector<Width>& widths,
                  int width, Look look) {
  std::string text;
  for (size_t i = 0; i < widths.size(); ++i) {
    if (i > 0) text.append(kGap, ' ');
    const std::string cell = CutToCells(ShownText(cells[i]), widths[i].cells);
    const auto blanks = static_cast<size_t>(widths[i].cells - CellsOf(cell));
    text += widths[i].is_text ? cell + std::string(blanks, ' ') : std::string(blanks, ' ') + cell;
  }
  text.resize(text.find_last_not_of(' ') + 1);
  FrameLine line(width);
  line.Add(text, look);
  if (look == Look::kHeading) line.Add(std::string(static_cast<size_t>(line.room()), ' '), look);
  return line;
}

}  // namespace

Frame DrawTable(const TextTable& table, int width) {
  std::vector<Width> widths = WidthsOf(table);
  Fit(widths, width);
  std::vector<std::string> headings;
  for (const TextTable::Column& column : table.columns) headings.push_back(column.heading);
  Frame frame = {DrawRow(headings, widths, width, Look::kHeading)};
  for (const auto& row : table.rows) frame.push_back(DrawRow(row, widths, width, Look::kPlain));
  return frame;
}

}  // namespace holdfast
