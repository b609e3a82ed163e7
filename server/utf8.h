// Whole characters and counts of them. Making text whole is detokenizer.h.
//
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace holdfast {

// Well-formed sequences alone: Unicode 15, table 3-7.
bool IsUtf8(std::string_view bytes);
// Of text, or of a token that may hold a part of one: a character counts where it begins.
int64_t NumCharacters(std::string_view bytes);

}  // namespace holdfast
