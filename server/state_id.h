// Ids of what is kept over a restart.
//
// Thread: any.
#pragma once

#include <string>
#include <string_view>

namespace holdfast {

// `prefix` and 32 hexadecimal digits that nobody can guess.
std::string MakeStateId(std::string_view prefix);

}  // namespace holdfast
