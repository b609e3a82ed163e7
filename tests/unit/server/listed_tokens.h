// A tokenizer whose tokens a test lists. Encodes nothing.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/text.h"

namespace holdfast {

class ListedTokens final : public Tokenizer {
 public:
  // The last `num_special` of `tokens` are control tokens.
  explicit ListedTokens(std::vector<std::string> tokens, int32_t num_special = 0,
                        bool adds_space_prefix = false)
      : tokens_(std::move(tokens)),
        num_special_(num_special),
        adds_space_prefix_(adds_space_prefix) {}

  absl::Status Encode(std::string_view, SpecialTokens, bool, std::vector<int32_t>&) const override {
    return absl::UnimplementedError("only lists tokens");
  }
  std::string_view TokenBytes(int32_t id) const override {
    return Has(id) ? std::string_view(tokens_[static_cast<size_t>(id)]) : std::string_view();
  }
  bool IsSpecial(int32_t id) const override { return Has(id) && id >= vocab_size() - num_special_; }
  int32_t vocab_size() const override { return static_cast<int32_t>(tokens_.size()); }
  bool adds_space_prefix() const override { return adds_space_prefix_; }

 private:
  bool Has(int32_t id) const { return id >= 0 && id < vocab_size(); }

  const std::vector<std::string> tokens_;
  const int32_t num_special_;
  const bool adds_space_prefix_;
};

}  // namespace holdfast
