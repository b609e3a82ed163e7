// What `holdfast top` shows, as lines: sums and bars above, then the tenants, the sequences that
// run and wait, and the pins, each with as much of the rows that are left as is fair.
//
// Thread: any; pure. Bound: the size; without a height, the lists'.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/terminal_frame.h"
#include "server/top_rates.h"
#include "server/top_state.h"

namespace holdfast {

struct TopView {
  std::string title;  // which daemon
  std::string hint;   // at the right of it
  std::string fault;  // why `state` is of an earlier look, or of none; empty: it is not
  std::string rates_fault;
  std::optional<TopState> state;
  std::optional<TopRates> rates;
};

Frame DrawTop(const TopView& view, FrameSize size);

// How many of `rows` each of `wants` gets: all it wants, or no less than any other that lacks some.
std::vector<int> ShareRows(const std::vector<int>& wants, int rows);

// "512", "1.5K", "12M", by powers of 1024; "0.4", "12", "34567"; "85ms", "1.2s", "2m5s".
std::string BytesText(int64_t bytes);
std::string RateText(double rate);
std::string TimeText(absl::Duration time);

}  // namespace holdfast
