// Reads tests/golden; the layouts are told in its README.md.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "config/ids.h"

namespace holdfast {

class GoldenReader final {
 public:
  explicit GoldenReader(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    EXPECT_TRUE(file.good()) << path;
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
  }

  template <typename T>
  std::vector<T> Take(size_t count) {
    std::vector<T> values(count);
    const size_t bytes = count * sizeof(T);
    EXPECT_LE(at_ + bytes, bytes_.size()) << "the golden file is short";
    if (at_ + bytes > bytes_.size()) return values;
    std::memcpy(values.data(), bytes_.data() + at_, bytes);
    at_ += bytes;
    return values;
  }

  std::string Magic() {
    const std::vector<char> magic = Take<char>(8);
    return {magic.begin(), magic.end()};
  }

 private:
  std::string bytes_;
  size_t at_ = 0;
};

// Logits of one sequence: the `top` largest of each position, or all.
struct GoldenLogits {
  uint32_t positions = 0, vocabulary = 0, top = 0;
  std::vector<TokenId> tokens, argmax;
  std::vector<float> min, max, log_sum_exp;
  std::vector<TokenId> ids;   // [positions][top]; empty if all
  std::vector<float> logits;  // [positions][top]

  TokenId IdOf(size_t position, size_t rank) const {
    return ids.empty() ? static_cast<TokenId>(rank) : ids[position * top + rank];
  }
};

inline GoldenLogits ReadGoldenLogits(const std::string& path) {
  GoldenReader reader(path);
  GoldenLogits g;
  EXPECT_EQ(reader.Magic(), "HFLOGIT1") << path;
  const std::vector<uint32_t> sizes = reader.Take<uint32_t>(4);
  g.positions = sizes[0];
  g.vocabulary = sizes[1];
  g.top = sizes[2];
  g.tokens = reader.Take<TokenId>(g.positions);
  g.argmax = reader.Take<TokenId>(g.positions);
  g.min = reader.Take<float>(g.positions);
  g.max = reader.Take<float>(g.positions);
  g.log_sum_exp = reader.Take<float>(g.positions);
  const size_t count = size_t{g.positions} * g.top;
  if (g.top < g.vocabulary) g.ids = reader.Take<TokenId>(count);
  g.logits = reader.Take<float>(count);
  return g;
}

struct GoldenPerplexity {
  std::vector<std::vector<TokenId>> windows;
  std::vector<double> negative_log_likelihood;  // of each window
};

inline GoldenPerplexity ReadGoldenPerplexity(const std::string& path) {
  GoldenReader reader(path);
  GoldenPerplexity g;
  EXPECT_EQ(reader.Magic(), "HFPPLEX1") << path;
  const std::vector<uint32_t> sizes = reader.Take<uint32_t>(2);
  for (uint32_t i = 0; i < sizes[0]; ++i) g.windows.push_back(reader.Take<TokenId>(sizes[1]));
  g.negative_log_likelihood = reader.Take<double>(sizes[0]);
  return g;
}

}  // namespace holdfast
