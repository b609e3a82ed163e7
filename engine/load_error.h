// How the model readers say what is wrong with a file: `<file>: <field> ...: wanted, found, what to
// do`. Names that come from the file are quoted, escaped and cut, since they are foreign bytes on
// their way into a log.
//
// Blast radius of every error here: the process at start (no model, no service).
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace holdfast {

inline constexpr size_t kQuotedBytesMax = 80;

inline std::string Quoted(absl::string_view foreign) {
  const bool cut = foreign.size() > kQuotedBytesMax;
  return absl::StrCat("\"", absl::CHexEscape(foreign.substr(0, kQuotedBytesMax)), cut ? "..." : "",
                      "\"");
}

// The bytes contradict the format, or themselves.
template <typename... Parts>
absl::Status Malformed(absl::string_view file, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", parts...));
}

// A sound file that asks for what this engine cannot compute.
template <typename... Parts>
absl::Status Unsupported(absl::string_view file, const Parts&... parts) {
  return absl::UnimplementedError(absl::StrCat(file, ": ", parts...));
}

}  // namespace holdfast
