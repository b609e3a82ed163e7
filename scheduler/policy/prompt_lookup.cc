#include "scheduler/policy/prompt_lookup.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {
namespace {

constexpr int32_t kRunMax = 16;  // longer ones are all alike
constexpr float kFade = 1.0f / 8;

// The latest i in [begin, end) with tokens[i] == last and tokens[i - 1] == before; -1: none.
int32_t LatestPair(std::span<const TokenId> tokens, int32_t begin, int32_t end, TokenId before,
                   TokenId last) {
  constexpr int32_t kLanes = 16;  // looked at side by side
  const TokenId* const at = tokens.data();
  for (; end - begin >= kLanes; end -= kLanes) {
    int32_t found = 0;
    for (int32_t i = end - kLanes; i < end; ++i) {
      found |= static_cast<int32_t>(at[i] == last) & static_cast<int32_t>(at[i - 1] == before);
    }
    if (found != 0) break;
  }
  for (int32_t i = end - 1; i >= begin; --i) {
    if (at[i] == last && at[i - 1] == before) return i;
  }
  return -1;
}

}  // namespace

size_t PromptLookup::ClassOf(int32_t run) {
  if (run <= 3) return run <= 2 ? 0 : 1;
  if (run <= 7) return 2;
  return run < kRunMax ? 3 : 4;
}

void PromptLookup::OnToken(std::span<const TokenId> tokens) {
  CHECK(!tokens.empty());
  const size_t last = tokens.size() - 1;
  const bool follows = source_ > 0 && static_cast<size_t>(told_) == last;
  told_ = static_cast<int32_t>(tokens.size());
  if (follows) {
    const bool right = tokens[last] == tokens[static_cast<size_t>(source_)];
    float& chance = chances_[ClassOf(run_)];
    chance += kFade * ((right ? 1.0f : 0.0f) - chance);
    if (right) {
      ++source_;
      run_ = std::min(run_ + 1, kRunMax);
      return;
    }
  }
  Find(tokens);
}

void PromptLookup::Find(std::span<const TokenId> tokens) {
  source_ = run_ = 0;
  const auto length = static_cast<int32_t>(tokens.size());
  if (length < 4) return;
  const auto token = [&](int32_t place) { return tokens[static_cast<size_t>(place)]; };
  const int32_t begin = std::max(length - kWindow, 2);
  for (int32_t end = length - 1; end > begin;) {
    const int32_t found = LatestPair(tokens, begin, end, token(length - 2), token(length - 1));
    if (found < 0) break;
    const bool of_three = token(found - 2) == token(length - 3);
    if (of_three || source_ == 0) source_ = found + 1;
    if (of_three) break;
    end = found;
  }
  if (source_ == 0) return;
  for (run_ = 2; run_ < kRunMax && run_ < source_; ++run_) {
    if (token(source_ - 1 - run_) != token(length - 1 - run_)) break;
  }
}

void PromptLookup::Draft(std::span<const TokenId> tokens, std::span<TokenId> drafts) const {
  CHECK(HasDrafts(tokens));
  const std::span<const TokenId> source = tokens.subspan(static_cast<size_t>(source_));
  for (size_t i = 0; i < drafts.size(); ++i) {
    drafts[i] = i < source.size() ? source[i] : drafts[i - source.size()];
  }
}

}  // namespace holdfast
