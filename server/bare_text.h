// Which parameters of a tool are written bare, as text without quotes, by models that write each
// parameter by itself (<parameter=city>Paris</parameter>): those that can be nothing but a string,
// or a string or null. The grammar of calls and their reader both go by what is found here.
//
// Thread: any; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/limits.h"
#include "server/json_body.h"

namespace holdfast {

struct BareText {
  bool may_be_null = false;                         // then the word null is null
  std::optional<std::vector<std::string>> choices;  // all that it can be; absent: any text
  std::optional<int64_t> length_min, length_max;    // of any text, in characters
  bool is_all = true;  // nothing more is asked of it (a format), to which text is not held

  bool operator==(const BareText&) const = default;
};

using BareTexts = std::map<std::string, BareText>;          // by parameter
using BareTextsOfTools = std::map<std::string, BareTexts>;  // by tool

// What is spent on all tools of one request, while its I/O thread waits: references let what a
// small schema holds be read and copied millions of times. A parameter that would take more than is
// left is not found to be bare.
struct BareTextBudget {
  size_t fields_left = 1 << 18;  // and values, of schemas that are read: some milliseconds
  size_t choice_bytes_left = kGrammarBytesMax / 2;  // they stand beside the tools, in as much
};

// `parameters`: the JSON schema of a tool's arguments; null: it has none.
BareTexts BareTextsOf(const Json& parameters, BareTextBudget& budget);

}  // namespace holdfast
