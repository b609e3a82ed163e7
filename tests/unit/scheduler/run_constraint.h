// What answers are held to in tests of masks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/token_mask.h"

namespace holdfast {

// Of each kFree tokens and `run_length` the former are of a seventh of the vocabulary, the latter
// forced; which ones follows from all tokens before. Fails when it is told a token that it had not
// allowed, and at the draw `fails_at`.
class RunConstraint final : public TokenConstraint {
 public:
  static constexpr int32_t kVocab = 1000;
  static constexpr size_t kFree = 4;
  static constexpr TokenId kForced = 500;  // to 506

  explicit RunConstraint(size_t run_length, int32_t fails_at = -1)
      : run_length_(run_length), fails_at_(fails_at) {}

  static std::shared_ptr<TokenMask> Mask(size_t run_length, int32_t fails_at = -1) {
    return std::make_shared<TokenMask>(std::make_unique<RunConstraint>(run_length, fails_at),
                                       kVocab);
  }

  bool Allows(const std::vector<TokenId>& before, TokenId token) const {
    return IsForced(before.size()) ? token == Forced(before) : token % 7 == Residue(before);
  }

  absl::Status Consume(TokenId token) override {
    if (!Allows(tokens_, token)) return absl::InternalError("was told a token it had not allowed");
    tokens_.push_back(token);
    return absl::OkStatus();
  }
  absl::Status Next(std::span<uint32_t> words, std::vector<TokenId>& forced) override {
    if (static_cast<int32_t>(tokens_.size()) == fails_at_) {
      return absl::InvalidArgumentError("too hard");
    }
    forced.clear();
    std::vector<TokenId> tokens = tokens_;
    while (IsForced(tokens.size())) {
      forced.push_back(Forced(tokens));
      tokens.push_back(forced.back());
    }
    std::fill(words.begin(), words.end(), 0);
    for (TokenId token = 0; forced.empty() && token < kVocab; ++token) {
      const auto index = static_cast<size_t>(token);
      if (Allows(tokens_, token)) words[index / 32] |= 1u << (index % 32);
    }
    return absl::OkStatus();
  }

 private:
  bool IsForced(size_t place) const { return place % (kFree + run_length_) >= kFree; }
  static TokenId Residue(const std::vector<TokenId>& before) {
    TokenId sum = static_cast<TokenId>(before.size());
    for (const TokenId token : before) sum = (sum * 3 + token) % 7;
    return sum;
  }
  static TokenId Forced(const std::vector<TokenId>& before) { return kForced + Residue(before); }

  const size_t run_length_;
  const int32_t fails_at_;
  std::vector<TokenId> tokens_;
};

}  // namespace holdfast
