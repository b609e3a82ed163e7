// Grammars over a small vocabulary: what they allow, at random or along a text.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/unit/text/vocabularies.h"
#include "text/grammar.h"

namespace holdfast {

inline const std::vector<std::string>& Controls() {
  static const std::vector<std::string> controls = {"<|end|>", "<|tool|>"};
  return controls;
}
inline constexpr int32_t kEnd = 0;
inline constexpr uint64_t kOwner = 0;

class GrammarTest : public testing::Test {
 protected:
  GrammarTest() : tokenizer_(ByteLevelTokenizer(Controls())) {
    // Above the tokenizer's, as models round theirs up.
    vocab_size_ = tokenizer_->vocab_size() + 37;
    const int32_t ends[] = {kEnd};
    // So that what is refused is refused for what it is, also where compiling is slow.
    const CompileLimits limits = {.wait_ms = 600'000};
    auto compiler = GrammarCompiler::Create(*tokenizer_, vocab_size_, ends, limits);
    EXPECT_TRUE(compiler.ok()) << compiler.status();
    compiler_ = *std::move(compiler);
  }

  std::unique_ptr<GrammarMatcher> Matcher(GrammarKind kind, const std::string& text) {
    auto grammar = compiler_->Compile({.kind = kind, .text = text}, kOwner);
    EXPECT_TRUE(grammar.ok()) << grammar.status();
    if (!grammar.ok()) return nullptr;
    auto matcher = (*grammar)->NewMatcher();  // outlives its grammar
    EXPECT_TRUE(matcher.ok()) << matcher.status();
    return *std::move(matcher);
  }

  std::string Refusal(GrammarKind kind, const std::string& text) {
    const auto grammar = compiler_->Compile({.kind = kind, .text = text}, kOwner);
    EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument) << grammar.status();
    return std::string(grammar.status().message());
  }

  std::vector<int32_t> Allowed(GrammarMatcher& matcher) {
    std::vector<uint32_t> words((static_cast<size_t>(vocab_size_) + 31) / 32, 0xffffffff);
    std::vector<int32_t> forced;
    const absl::Status status = matcher.Next(words, forced);
    EXPECT_TRUE(status.ok()) << status;
    if (!forced.empty()) return {forced.front()};
    std::vector<int32_t> allowed;
    for (int32_t token = 0; token < static_cast<int32_t>(32 * words.size()); ++token) {
      if (words[static_cast<size_t>(token / 32)] >> (token % 32) & 1) allowed.push_back(token);
    }
    return allowed;
  }

  // Draws at random until an end token; what the tokens before it spell.
  std::string RandomAnswer(GrammarMatcher& matcher, std::mt19937& rng, int tokens_max = 400) {
    std::string text;
    for (int i = 0; i < tokens_max; ++i) {
      const std::vector<int32_t> allowed = Allowed(matcher);
      EXPECT_FALSE(allowed.empty());
      const bool ends = allowed.front() == kEnd && rng() % 2 == 0;
      const int32_t token = ends ? kEnd : allowed[rng() % allowed.size()];
      EXPECT_LT(token, tokenizer_->vocab_size());
      EXPECT_TRUE(matcher.Consume(token).ok());
      if (token == kEnd) return text;
      text += tokenizer_->TokenBytes(token);
    }
    return "(no end) " + text;
  }

  // Feeds `text`, byte by byte where there is a choice; how many bytes were allowed.
  size_t Accepted(GrammarMatcher& matcher, const std::string& text) {
    for (size_t i = 0; i < text.size();) {
      const std::vector<int32_t> allowed = Allowed(matcher);
      const bool is_forced = allowed.size() == 1;
      const int32_t token = is_forced ? allowed.front() : ByteId(Controls(), text[i]);
      const std::string_view bytes = tokenizer_->TokenBytes(token);
      const bool fits = token != kEnd && text.compare(i, bytes.size(), bytes) == 0 &&
                        std::find(allowed.begin(), allowed.end(), token) != allowed.end();
      if (!fits) return i;
      EXPECT_TRUE(matcher.Consume(token).ok());
      i += bytes.size();
    }
    return text.size();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  int32_t vocab_size_ = 0;
  std::unique_ptr<GrammarCompiler> compiler_;
};

}  // namespace holdfast
