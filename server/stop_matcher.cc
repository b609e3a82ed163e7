#include "server/stop_matcher.h"

#include <algorithm>

namespace holdfast {

StopMatcher::StopMatcher(const std::vector<std::string>& stops, bool include_stop)
    : include_stop_(include_stop) {
  for (const std::string& text : stops) {
    if (text.empty()) continue;
    Stop stop{.text = text, .fallback = std::vector<uint32_t>(text.size() + 1, 0)};
    // The border of n + 1 bytes is where the automaton of the first n goes on with the next.
    for (size_t n = 1; n < text.size(); ++n) {
      Step(stop, text[n]);
      stop.fallback[n + 1] = static_cast<uint32_t>(stop.matched);
    }
    stop.matched = 0;
    stops_.push_back(std::move(stop));
  }
}

void StopMatcher::Step(Stop& stop, char c) {
  while (stop.matched > 0 && stop.text[stop.matched] != c) {
    stop.matched = stop.fallback[stop.matched];
  }
  if (stop.text[stop.matched] == c) ++stop.matched;
}

std::optional<StopMatch> StopMatcher::Append(std::string_view piece, std::string& out) {
  if (ended_) return std::nullopt;
  if (stops_.empty()) {
    out += piece;
    return std::nullopt;
  }
  for (size_t i = 0; i < piece.size(); ++i) {
    const Stop* found = nullptr;
    for (Stop& stop : stops_) {
      Step(stop, piece[i]);
      const bool complete = stop.matched == stop.text.size();
      if (complete && (found == nullptr || stop.text.size() > found->text.size())) found = &stop;
    }
    if (found == nullptr) continue;
    held_ += piece.substr(0, i + 1);
    const size_t hidden = include_stop_ ? 0 : found->text.size();
    out.append(held_, 0, held_.size() - hidden);
    held_.clear();
    ended_ = true;
    return StopMatch{found->text};
  }
  size_t held = 0;
  for (const Stop& stop : stops_) held = std::max(held, stop.matched);
  held_ += piece;
  out.append(held_, 0, held_.size() - held);
  held_.erase(0, held_.size() - held);
  return std::nullopt;
}

void StopMatcher::Finish(std::string& out) {
  if (!ended_) out += held_;
  held_.clear();
  ended_ = true;
}

}  // namespace holdfast
