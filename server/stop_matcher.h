// Finds stop strings in text that comes in pieces, and holds back what may still become one.
//
//   pieces ─► [held: the longest end of the text that begins some stop string] ─► out
//
// The stop string that is complete first wins; of several that end at the same place, the longest.
// So the result depends on the text alone, never on how it was cut. Nothing comes out after it.
//
// Thread: one.    Bound: one byte less than the longest stop string; time: bytes x stop strings.
// Source: Knuth, Morris and Pratt, "Fast pattern matching in strings", 1977; one automaton each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast {

struct StopMatch {
  std::string stop;
};

class StopMatcher final {
 public:
  // Empty stop strings never match. `include_stop`: the one found is shown.
  StopMatcher(const std::vector<std::string>& stops, bool include_stop);

  // Appends to `out` what can be shown now that `piece` has come. A match: the text has ended.
  std::optional<StopMatch> Append(std::string_view piece, std::string& out);
  // The text ends without a match: what was held is shown.
  void Finish(std::string& out);

 private:
  struct Stop {
    std::string text;
    std::vector<uint32_t> fallback;  // [n]: longest border of the first n bytes
    size_t matched = 0;              // bytes that the end of the text agrees with
  };
  static void Step(Stop& stop, char c);

  const bool include_stop_;
  bool ended_ = false;
  std::vector<Stop> stops_;
  std::string held_;
};

}  // namespace holdfast
