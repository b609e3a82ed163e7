// Joins pieces of text and numbers into one string, std::string_view included. Debian builds Abseil
// with a string_view of its own, to which the standard's does not convert; this is the one place
// that bridges them, so that our interfaces can keep the standard's.
#pragma once

#include <iterator>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace holdfast {

inline absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view StdView(absl::string_view text) { return {text.data(), text.size()}; }

namespace concat_internal {
inline absl::string_view Piece(std::string_view text) { return AbslView(text); }
inline absl::string_view Piece(const std::string& text) { return text; }
inline absl::string_view Piece(const char* text) { return text; }
inline absl::string_view Piece(absl::string_view text) { return text; }
template <typename T>
const T& Piece(const T& other) {
  return other;
}
}  // namespace concat_internal

template <typename... Parts>
std::string Concat(const Parts&... parts) {
  return absl::StrCat(concat_internal::Piece(parts)...);
}

// "a, b, c"
template <typename Range>
std::string ConcatList(const Range& parts, std::string_view separator) {
  std::string joined;
  for (const auto& part : parts) {
    if (&part != &*std::begin(parts)) joined.append(separator);
    joined.append(Concat(part));
  }
  return joined;
}

}  // namespace holdfast
