// A tokenizer that a reader can follow: token i < 256 is the byte i; a few tokens of several bytes
// and two control tokens come after. Texts are encoded byte by byte.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "text/text.h"

namespace holdfast {

class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int32_t kBos = 256;
  static constexpr int32_t kEos = 257;
  static constexpr int32_t kFirstWord = 258;  // the words given, in order

  explicit ByteTokenizer(std::vector<std::string> words = {}) : words_(std::move(words)) {
    for (int i = 0; i < 256; ++i) bytes_.push_back(std::string(1, static_cast<char>(i)));
    bytes_.push_back("<bos>");
    bytes_.push_back("<eos>");
    bytes_.insert(bytes_.end(), words_.begin(), words_.end());
  }

  absl::Status Encode(std::string_view text, SpecialTokens, bool add_bos_eos,
                      std::vector<int32_t>& ids) const override {
    if (add_bos_eos && adds_bos) ids.push_back(kBos);
    for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
    return absl::OkStatus();
  }
  std::string_view TokenBytes(int32_t id) const override {
    return id >= 0 && id < vocab_size() ? std::string_view(bytes_[id]) : std::string_view();
  }
  bool IsSpecial(int32_t id) const override { return id == kBos || id == kEos; }
  int32_t vocab_size() const override { return static_cast<int32_t>(bytes_.size()); }

  bool adds_bos = false;

 private:
  std::vector<std::string> words_, bytes_;
};

}  // namespace holdfast
