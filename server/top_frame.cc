#include "server/top_frame.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"
#include "config/base/concat.h"
#include "server/text_table.h"

namespace holdfast {
namespace {

constexpr int kBarCellsMin = 10;
constexpr TextTable::Kind kNumber = TextTable::Kind::kNumber;

FrameLine DrawText(std::string_view text, int width, Look look = Look::kPlain) {
  FrameLine line(width);
  line.Add(text, look);
  return line;
}

std::string ShareText(double share) { return absl::StrFormat("%.0f%%", 100 * share); }

std::string ShareText(int64_t part, int64_t whole) {
  return ShareText(whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0);
}

std::string HitText(const std::optional<double>& hit_ratio) {
  return hit_ratio ? ShareText(*hit_ratio) : "-";
}

// ---- The sums -----------------------------------------------------------------------------------

FrameLine DrawTitle(const TopView& view, int width) {
  FrameLine line(width);
  line.Add("holdfast top  ", Look::kTitle).Add(view.title);
  const int blanks = line.room() - static_cast<int>(view.hint.size());
  if (blanks > 0) line.Add(std::string(static_cast<size_t>(blanks), ' ')).Add(view.hint);
  return line;
}

FrameLine DrawPlaces(const TopState& state, int width) {
  const std::string places = state.whole
                                 ? Concat(state.whole->running, " of ", state.whole->running_max,
                                          " places run, ", state.whole->waiting, " wait")
                                 : Concat("this tenant's part: ", state.running_total, " run, ",
                                          state.waiting_total, " wait");
  return DrawText(Concat(places, "   policy ", state.policy, ", order ", state.order), width);
}

std::string QuantilesText(const std::optional<TopRates::Quantiles>& quantiles) {
  if (!quantiles) return "-";
  return Concat("p50 ", TimeText(quantiles->p50), " p95 ", TimeText(quantiles->p95));
}

void DrawRates(const TopView& view, int width, Frame& frame) {
  if (!view.rates_fault.empty()) {
    frame.push_back(DrawText(Concat("no rates: ", view.rates_fault), width, Look::kFault));
  }
  if (!view.rates) return;
  const TopRates& rates = *view.rates;
  frame.push_back(
      DrawText(Concat("tokens/s ", RateText(rates.all.completion_tokens), " drawn, ",
                      RateText(rates.prompt_tokens_computed), " of prompts  hits ",
                      HitText(rates.all.hit_ratio), "  requests/s ", RateText(rates.requests),
                      ", refused ", RateText(rates.requests_refused)),
               width));
  frame.push_back(
      DrawText(Concat("first token ", QuantilesText(rates.first_token), "  next token ",
                      QuantilesText(rates.next_token), "  of the last ", TimeText(rates.span)),
               width));
}

// ---- The KV cache -------------------------------------------------------------------------------

struct Part {
  char letter;
  const char* name;
  int64_t blocks;
  Look look;
};

// A cell stands for a number of blocks: for whose is in its middle.
void DrawBar(const std::vector<Part>& parts, int64_t capacity, int cells, FrameLine& line) {
  line.Add("[");
  int64_t end = 0;
  int drawn = 0;
  for (const Part& part : parts) {
    end += part.blocks;
    const double up_to = static_cast<double>(end) / static_cast<double>(capacity) * cells;
    const int to = std::clamp(static_cast<int>(std::lround(up_to)), drawn, cells);
    line.Add(std::string(static_cast<size_t>(to - drawn), part.letter), part.look);
    drawn = to;
  }
  line.Add(std::string(static_cast<size_t>(cells - drawn), ' ')).Add("]");
}

FrameLine DrawTier(const char* name, int64_t capacity, int64_t block_bytes,
                   const std::vector<Part>& parts, int width) {
  FrameLine line(width);
  line.Add(absl::StrFormat("%-6s %6s ", name, BytesText(capacity * block_bytes)));
  constexpr int kBrackets = 2;
  const int cells = line.room() - kBrackets;
  if (cells >= kBarCellsMin) DrawBar(parts, capacity, cells, line);
  return line;
}

FrameLine DrawLegend(const std::vector<Part>& parts, int64_t capacity, int width) {
  FrameLine line(width);
  line.Add("  ");
  for (const Part& part : parts) {
    line.Add(std::string(1, part.letter), part.look);
    line.Add(Concat(" ", part.name, " ", ShareText(part.blocks, capacity), "  "));
  }
  return line;
}

void DrawKv(const TopState& state, int width, Frame& frame) {
  if (!state.whole) return;
  const TopState::Whole& whole = *state.whole;
  const std::vector<Part> parts = {{'#', "in use", whole.held - whole.pinned, Look::kHeld},
                                   {'p', "pinned", whole.pinned, Look::kPinned},
                                   {'e', "evictable", whole.evictable, Look::kEvictable},
                                   {'m', "moving", whole.moving, Look::kMoving},
                                   {'.', "free", whole.free, Look::kPlain}};
  for (size_t i = 0; i < kTopTiers.size(); ++i) {
    const int64_t capacity = whole.capacity[i];
    if (capacity <= 0) continue;
    if (i == 0) {
      frame.push_back(DrawTier(kTopTiers[i], capacity, state.block_bytes, parts, width));
      frame.push_back(DrawLegend(parts, capacity, width));
      continue;
    }
    const int64_t used = std::accumulate(
        state.tenants.begin(), state.tenants.end(), int64_t{0},
        [i](int64_t sum, const TopState::Tenant& one) { return sum + one.blocks[i]; });
    const std::vector<Part> places = {{'=', "used", used, Look::kEvictable},
                                      {'.', "free", capacity - used, Look::kPlain}};
    frame.push_back(DrawTier(kTopTiers[i], capacity, state.block_bytes, places, width));
  }
}

// ---- The lists ----------------------------------------------------------------------------------

struct List {
  const char* name;  // "TENANTS", of the first column, behind how many there are
  int64_t total;
  size_t num_listed;
  // Of the first `rows` of them.
  TextTable (*table)(const TopView& view, size_t rows);
};

TextTable TenantsTable(const TopView& view, size_t rows) {
  const TopState& state = *view.state;
  TextTable table{.columns = {{""},
                              {"RUN", kNumber},
                              {"WAIT", kNumber},
                              {"TOK/S", kNumber},
                              {"HITS", kNumber},
                              {"DEVICE", kNumber},
                              {"HOST", kNumber},
                              {"DISK", kNumber},
                              {"PINNED", kNumber},
                              {"WHY THEY WAIT"},
                              {"PROGRAMS", kNumber},
                              {"PAUSED", kNumber}}};
  const auto bytes = [&state](int64_t blocks) { return BytesText(blocks * state.block_bytes); };
  for (size_t i = 0; i < rows; ++i) {
    const TopState::Tenant& one = state.tenants[i];
    std::string tokens = "-", hits = "-";
    if (view.rates) {
      if (const auto found = view.rates->tenants.find(one.name);
          found != view.rates->tenants.end()) {
        tokens = RateText(found->second.completion_tokens);
        hits = HitText(found->second.hit_ratio);
      }
    }
    table.rows.push_back({one.name, Concat(one.running), Concat(one.waiting), tokens, hits,
                          bytes(one.blocks[0]), bytes(one.blocks[1]), bytes(one.blocks[2]),
                          bytes(one.pinned), one.why, Concat(one.programs),
                          Concat(one.programs_paused)});
  }
  return table;
}

TextTable RunningTable(const TopView& view, size_t rows) {
  TextTable table{.columns = {{""},
                              {"TENANT"},
                              {"STAGE"},
                              {"PROMPT", kNumber},
                              {"ANSWER", kNumber},
                              {"KV", kNumber},
                              {"AGE", kNumber},
                              {"SESSION"},
                              {"PRIORITY", kNumber}}};
  for (size_t i = 0; i < rows; ++i) {
    const TopState::Sequence& one = view.state->running[i];
    table.rows.push_back({one.request, one.tenant, one.stage, Concat(one.prompt_tokens),
                          Concat(one.completion_tokens),
                          BytesText(one.blocks * view.state->block_bytes), TimeText(one.age),
                          one.session, one.priority});
  }
  return table;
}

TextTable WaitingTable(const TopView& view, size_t rows) {
  TextTable table{.columns = {{""},
                              {"TENANT"},
                              {"WHY"},
                              {"PROMPT", kNumber},
                              {"AGE", kNumber},
                              {"SESSION"},
                              {"PRIORITY", kNumber}}};
  for (size_t i = 0; i < rows; ++i) {
    const TopState::Sequence& one = view.state->waiting[i];
    table.rows.push_back({one.request, one.tenant, one.stage, Concat(one.prompt_tokens),
                          TimeText(one.age), one.session, one.priority});
  }
  return table;
}

TextTable PinsTable(const TopView& view, size_t rows) {
  TextTable table{.columns = {{""}, {"TENANT"}, {"WHY"}, {"KV", kNumber}, {"ENDS IN", kNumber}}};
  for (size_t i = 0; i < rows; ++i) {
    const TopState::Pin& one = view.state->pins[i];
    table.rows.push_back({one.session, one.tenant, one.why,
                          BytesText(one.blocks * view.state->block_bytes), TimeText(one.left)});
  }
  return table;
}

Frame DrawList(const TopView& view, const List& list, size_t rows, int width) {
  TextTable table = list.table(view, rows);
  const auto total = std::max(list.total, static_cast<int64_t>(list.num_listed));
  if (total == 0) table.columns.resize(1);
  table.columns[0].heading = static_cast<int64_t>(rows) == total
                                 ? Concat(total, " ", list.name)
                                 : Concat(rows, " of ", total, " ", list.name);
  return DrawTable(table, width);
}

void DrawLists(const TopView& view, FrameSize size, Frame& frame) {
  const TopState& state = *view.state;
  const auto num_tenants = static_cast<int64_t>(state.tenants.size());
  const std::vector<List> lists = {
      {"TENANTS", num_tenants, state.tenants.size(), TenantsTable},
      {"RUNNING", state.running_total, state.running.size(), RunningTable},
      {"WAITING", state.waiting_total, state.waiting.size(), WaitingTable},
      {"PINS", state.pins_total, state.pins.size(), PinsTable}};
  std::vector<int> rows;
  for (const List& list : lists) rows.push_back(static_cast<int>(list.num_listed));
  if (size.height) {
    rows = ShareRows(rows, *size.height - static_cast<int>(frame.size() + lists.size()));
  }
  for (size_t i = 0; i < lists.size(); ++i) {
    if (!size.height) frame.emplace_back(size.width);
    Frame part = DrawList(view, lists[i], static_cast<size_t>(rows[i]), size.width);
    std::move(part.begin(), part.end(), std::back_inserter(frame));
  }
}

}  // namespace

std::vector<int> ShareRows(const std::vector<int>& wants, int rows) {
  std::vector<int> shares(wants.size());
  for (bool wanted = true; wanted && rows > 0;) {
    wanted = false;
    for (size_t i = 0; i < wants.size() && rows > 0; ++i) {
      if (shares[i] == wants[i]) continue;
      wanted = true;
      ++shares[i];
      --rows;
    }
  }
  return shares;
}

std::string BytesText(int64_t bytes) {
  auto value = static_cast<double>(bytes);
  const char* unit = "KMGTP";
  if (bytes < 1024) return Concat(bytes);
  for (value /= 1024; value >= 1023.5 && unit[1] != '\0'; ++unit) value /= 1024;
  return Concat(RateText(value), std::string(1, *unit));
}

std::string RateText(double rate) { return absl::StrFormat("%.*f", rate < 9.95 ? 1 : 0, rate); }

std::string TimeText(absl::Duration time) {
  const absl::Duration unit = time < absl::Milliseconds(10) ? absl::Microseconds(100)
                              : time < absl::Seconds(1)     ? absl::Milliseconds(1)
                              : time < absl::Seconds(10)    ? absl::Milliseconds(100)
                                                            : absl::Seconds(1);
  return absl::FormatDuration(absl::Trunc(time, unit));
}

Frame DrawTop(const TopView& view, FrameSize size) {
  Frame frame = {DrawTitle(view, size.width)};
  if (!view.fault.empty()) frame.push_back(DrawText(view.fault, size.width, Look::kFault));
  if (view.state) frame.push_back(DrawPlaces(*view.state, size.width));
  DrawRates(view, size.width, frame);
  if (view.state) {
    DrawKv(*view.state, size.width, frame);
    DrawLists(view, size, frame);
  }
  if (size.height && frame.size() > static_cast<size_t>(*size.height)) {
    frame.resize(static_cast<size_t>(*size.height), FrameLine(size.width));
  }
  return frame;
}

}  // namespace holdfast
