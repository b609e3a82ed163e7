#include "workload/token_runs.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "config/base/check.h"
#include "config/base/concat.h"
#include "workload/random_source.h"

namespace holdfast {
namespace {

// One mixed word makes two tokens, of its lower and its upper half.
uint64_t WordAt(uint64_t key, uint64_t pair) { return MixBits(key + (pair + 1) * kGoldenGamma); }

TokenId Dense(uint64_t half, uint32_t num_ids) {
  return static_cast<TokenId>((half * num_ids) >> 32);
}

constexpr uint64_t kLowerHalf = 0xFFFFFFFF;

}  // namespace

absl::StatusOr<TokenRuns> TokenRuns::Make(const Options& options) {
  std::vector<TokenId> avoid = options.avoid;
  std::erase_if(avoid, [&](TokenId id) { return id < 0 || id >= options.vocabulary; });
  std::sort(avoid.begin(), avoid.end());
  avoid.erase(std::unique(avoid.begin(), avoid.end()), avoid.end());
  const int64_t num_ids = options.vocabulary - static_cast<int64_t>(avoid.size());
  if (num_ids < 2) {
    return absl::InvalidArgumentError(
        Concat("a vocabulary of ", options.vocabulary, " ids, ", avoid.size(),
               " of them avoided, leaves fewer than two to make prompts of"));
  }
  std::vector<Gap> gaps;
  for (const TokenId id : avoid) {
    if (!gaps.empty() && gaps.back().first + gaps.back().count == id) {
      ++gaps.back().count;
    } else {
      gaps.push_back({.first = id, .count = 1});
    }
  }
  return TokenRuns(options.seed, static_cast<uint32_t>(num_ids), std::move(gaps));
}

uint64_t TokenRuns::KeyOf(uint64_t run) const {
  std::array<unsigned char, 8> bytes;  // lowest first, on every platform
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(run >> (8 * i));
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed_);
}

TokenId TokenRuns::Allowed(TokenId dense) const {
  for (const Gap& gap : gaps_) dense += dense >= gap.first ? gap.count : 0;
  return dense;
}

TokenId TokenRuns::Token(uint64_t run, int64_t index) const {
  CHECK(index >= 0);
  const uint64_t word = WordAt(KeyOf(run), static_cast<uint64_t>(index) / 2);
  return Allowed(Dense(index % 2 == 0 ? word & kLowerHalf : word >> 32, num_ids_));
}

void TokenRuns::Fill(uint64_t run, int64_t first, std::span<TokenId> out) const {
  CHECK(first >= 0);
  const uint64_t key = KeyOf(run);
  const uint32_t num_ids = num_ids_;
  const size_t size = out.size();
  TokenId* const tokens = out.data();
  size_t done = 0;
  if (first % 2 != 0 && size > 0) {
    tokens[done++] = Dense(WordAt(key, static_cast<uint64_t>(first) / 2) >> 32, num_ids);
  }
  uint64_t pair = (static_cast<uint64_t>(first) + done) / 2;
  for (; done + 2 <= size; done += 2, ++pair) {
    const uint64_t word = WordAt(key, pair);
    tokens[done] = Dense(word & kLowerHalf, num_ids);
    tokens[done + 1] = Dense(word >> 32, num_ids);
  }
  if (done < size) tokens[done] = Dense(WordAt(key, pair) & kLowerHalf, num_ids);
  for (const Gap& gap : gaps_) {
    for (size_t i = 0; i < size; ++i) tokens[i] += tokens[i] >= gap.first ? gap.count : 0;
  }
}

void TokenRuns::Append(std::span<const TokenRun> runs, std::vector<TokenId>& prompt) const {
  size_t total = prompt.size();
  for (const TokenRun& run : runs) total += static_cast<size_t>(run.num_tokens);
  size_t at = prompt.size();
  prompt.resize(total);
  for (const TokenRun& run : runs) {
    const auto count = static_cast<size_t>(run.num_tokens);
    Fill(run.id, 0, std::span(prompt).subspan(at, count));
    at += count;
  }
}

}  // namespace holdfast
