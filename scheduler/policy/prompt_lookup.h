// Guesses how a sequence goes on by what followed the same words before: in its own prompt and
// completion, without a second model. Text that quotes, edits or fills in what the prompt holds
// often repeats runs of it.
//
//   tokens   ... a b c | d e f g ...        ... a b c
//                        ▲ source                   ▲ drawn last: then d, e, f, g are the drafts
//
// The source is the place after the latest earlier occurrence of the last three tokens, else of the
// last two. As long as each token drawn is the one that stood at the source, the source goes on
// with it; else it is looked for anew. What is drafted beyond the last token repeats itself.
//
// Each token drawn tells how good such guesses are, drafted or not: the share of right ones is kept
// by how long the run has been right, fading by an eighth with each.
//
// Source: prompt lookup decoding (Saxena, 2023), as in the n-gram speculators of vLLM and
// Transformers, who look for the first occurrence and draft a fixed number whatever came of it.
// Thread: the scheduler's.    Bound: OnToken looks through kWindow tokens at most, some
// microseconds, and only while no run goes on; no memory but this.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "config/ids.h"

namespace holdfast {

class PromptLookup final {
 public:
  static constexpr int32_t kWindow =
      8192;  // tokens before the last in which a source is looked for

  // One more token has been drawn, the last of `tokens`, which are always the same sequence's. If
  // it was not asked for those before, it begins anew.
  void OnToken(std::span<const TokenId> tokens);

  // `tokens` are those that it was last told, and some of them repeat.
  bool HasDrafts(std::span<const TokenId> tokens) const {
    return source_ > 0 && static_cast<size_t>(told_) == tokens.size();
  }
  // Then fills `drafts`.
  void Draft(std::span<const TokenId> tokens, std::span<TokenId> drafts) const;
  // How often a draft is right, if those before it are, `index` from 0.
  double Chance(int32_t index) const { return chances_[ClassOf(run_ + index)]; }

 private:
  static constexpr size_t kNumClasses = 5;  // runs of 2, 3, 4 to 7, 8 to 15, and longer
  static size_t ClassOf(int32_t run);
  void Find(std::span<const TokenId> tokens);

  int32_t source_ = 0;  // of the next token, in the sequence's; 0: none
  int32_t run_ = 0;     // so many tokens before it are the last ones
  int32_t told_ = 0;    // tokens, the last time
  // At first about what text of all kinds gave.
  std::array<float, kNumClasses> chances_ = {0.2f, 0.3f, 0.5f, 0.7f, 0.85f};
};

}  // namespace holdfast
