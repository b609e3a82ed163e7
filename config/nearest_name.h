// Guesses which known name a misspelt one meant: for unknown keys, flags and subcommands.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace holdfast {

// The known name with the fewest edits (insert, delete, replace, swap of neighbours), if that is
// few enough to be a slip of the hand: at most a third of the longer one, and at least one allowed.
// Only the first 64 bytes of `name` are looked at.
std::optional<std::string_view> NearestName(std::string_view name,
                                            std::span<const std::string_view> known);

}  // namespace holdfast
