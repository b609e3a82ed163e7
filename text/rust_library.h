// What the two C++ faces of the Rust library, text.cc and grammar.cc, share.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "text/text.h"
#include "text/text_c.h"

namespace holdfast::text_internal {

inline TextView View(std::string_view text) { return {text.data(), text.size()}; }

// A buffer of the Rust side, freed at the end of the scope.
class Buffer final {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { text_buffer_free(raw_); }
  TextBuffer* out() { return &raw_; }
  absl::string_view view() const {
    return {reinterpret_cast<const char*>(raw_.data), raw_.data == nullptr ? 0 : raw_.size};
  }
  std::string text() const { return std::string(view()); }

 private:
  TextBuffer raw_ = {};
};

inline absl::Status ToStatus(TextCode code, const Buffer& error) {
  switch (code) {
    case kTextOk:
      return absl::OkStatus();
    case kTextInvalidArgument:
      return absl::InvalidArgumentError(error.view());
    case kTextNotFound:
      return absl::NotFoundError(error.view());
    case kTextUnimplemented:
      return absl::UnimplementedError(error.view());
    case kTextResourceExhausted:
      return absl::ResourceExhaustedError(error.view());
    default:
      return absl::InternalError(error.view());
  }
}

// Null: the tokenizer is not one of text.h's factories'.
const TextTokenizer* RawTokenizer(const Tokenizer& tokenizer);

}  // namespace holdfast::text_internal
