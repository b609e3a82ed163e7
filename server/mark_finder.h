// Looks for a mark in text that comes character by character. What may yet become the mark waits,
// and with it the white space in front. No mark begins with white space, or anew within itself.
//
// Thread: one.    Bound: white space that waits, by the text's length.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "server/json_body.h"

namespace holdfast {

inline std::string_view WithoutLeadingSpace(std::string_view text) {
  while (!text.empty() && IsJsonSpace(text.front())) text.remove_prefix(1);
  return text;
}

class MarkFinder final {
 public:
  explicit MarkFinder(std::string_view mark) : mark_(mark) {}  // of static storage

  // True: the mark is whole, and waits. What cannot belong to it is appended to `passed`.
  bool Read(char c, std::string& passed) {
    const bool is_space = IsJsonSpace(c) && waiting_.size() == num_spaces_;
    waiting_ += c;
    if (is_space) {  // any amount, each looked at once
      ++num_spaces_;
      return false;
    }
    while (true) {
      const std::string_view begun = std::string_view(waiting_).substr(num_spaces_);
      if (begun == mark_) return true;
      if (mark_.starts_with(begun)) return false;
      passed.append(waiting_, 0, num_spaces_ + 1);
      waiting_.erase(0, num_spaces_ + 1);
      num_spaces_ = waiting_.size() - WithoutLeadingSpace(waiting_).size();
    }
  }

  std::string Take() {  // what waits, which begins anew
    num_spaces_ = 0;
    return std::exchange(waiting_, {});
  }

 private:
  std::string_view mark_;
  std::string waiting_;    // white space, and then what may be the beginning of the mark
  size_t num_spaces_ = 0;  // at its front
};

}  // namespace holdfast
