// The sampler beside one too simple to be wrong: a full sort in doubles.
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "engine/random_draw.h"

namespace holdfast {
namespace {

// ---- The simple one -----------------------------------------------------------------------------

struct Outcome {
  TokenId token;
  double logit;
  double probability;
};

void Normalise(std::vector<Outcome>& outcomes) {
  double best = -std::numeric_limits<double>::infinity(), total = 0.0;
  for (const Outcome& o : outcomes) best = std::max(best, o.logit);
  for (Outcome& o : outcomes) total += o.probability = std::exp(o.logit - best);
  for (Outcome& o : outcomes) o.probability /= total;
}

template <typename Key>
void KeepShare(std::vector<Outcome>& outcomes, double share, Key key) {
  std::sort(outcomes.begin(), outcomes.end(), [&](const Outcome& a, const Outcome& b) {
    return key(a) != key(b) ? key(a) < key(b) : a.token < b.token;
  });
  double sum = 0.0;
  size_t kept = 0;
  while (kept < outcomes.size()) {
    sum += outcomes[kept++].probability;
    if (sum >= share) break;
  }
  outcomes.resize(kept);
  Normalise(outcomes);
}

// Tokens that may be drawn and their probabilities.
std::map<TokenId, double> SimpleDistribution(const std::vector<float>& logits,
                                             const SequenceOpen& open) {
  const SamplingParams& p = open.sampling;
  std::vector<Outcome> outcomes;
  for (size_t i = 0; i < logits.size(); ++i) {
    outcomes.push_back({static_cast<TokenId>(i), logits[i], 0.0});
  }
  for (const auto& [token, bias] : p.logit_bias) outcomes[token].logit += bias;
  for (Outcome& o : outcomes) {
    const auto count = std::count(open.completion.begin(), open.completion.end(), o.token);
    const bool seen = count > 0 || std::count(open.prompt.begin(), open.prompt.end(), o.token) > 0;
    if (seen) {
      o.logit = o.logit > 0 ? o.logit / p.repetition_penalty : o.logit * p.repetition_penalty;
    }
    o.logit -= static_cast<double>(count) * p.frequency_penalty;
    o.logit -= count > 0 ? p.presence_penalty : 0.0;
  }
  if (open.completion.size() < static_cast<size_t>(p.min_tokens)) {
    std::erase_if(outcomes, [&](const Outcome& o) {
      return std::count(p.banned_until_min.begin(), p.banned_until_min.end(), o.token) > 0;
    });
  }
  const auto by_logit = [](const Outcome& o) { return -o.logit; };
  if (p.temperature == 0.0f) {
    KeepShare(outcomes, 0.0, by_logit);
    return {{outcomes[0].token, 1.0}};
  }
  for (Outcome& o : outcomes) o.logit /= p.temperature;
  Normalise(outcomes);
  std::sort(outcomes.begin(), outcomes.end(), [](const Outcome& a, const Outcome& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  });
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < outcomes.size()) outcomes.resize(p.top_k);
  Normalise(outcomes);
  if (p.typical_p < 1.0f) {
    double entropy = 0.0;
    for (const Outcome& o : outcomes) {
      if (o.probability > 0) entropy -= o.probability * std::log(o.probability);
    }
    KeepShare(outcomes, p.typical_p,
              [entropy](const Outcome& o) { return std::abs(-std::log(o.probability) - entropy); });
  }
  if (p.top_p < 1.0f) KeepShare(outcomes, p.top_p, by_logit);
  if (p.min_p > 0.0f) {
    double best = 0.0;
    for (const Outcome& o : outcomes) best = std::max(best, o.probability);
    std::erase_if(outcomes, [&](const Outcome& o) { return o.probability < p.min_p * best; });
    Normalise(outcomes);
  }
  std::map<TokenId, double> distribution;
  for (const Outcome& o : outcomes) distribution[o.token] = o.probability;
  return distribution;
}

// ---- Walks --------------------------------------------------------------------------------------

std::vector<float> RandomLogits(std::mt19937& rng, size_t count, float spread) {
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(rng);
  return logits;
}

TokenId DrawOnce(const std::vector<float>& logits, const SequenceOpen& open,
                 SamplerScratch& scratch, const TokenMask* mask = nullptr) {
  SamplerState state;
  state.Open(open);
  return Sampler::Draw(logits, state, scratch, mask);
}

SequenceOpen RandomOpen(std::mt19937& rng, int32_t vocab) {
  const auto one_in = [&](uint32_t n) { return rng() % n == 0; };
  const auto uniform = [&] { return static_cast<float>(rng() % 1000) / 1000.0f; };
  SequenceOpen open;
  SamplingParams& p = open.sampling;
  p.temperature = one_in(6) ? 0.0f : 0.2f + 2.0f * uniform();
  if (one_in(2)) p.top_k = 1 + static_cast<int32_t>(rng() % (2 * vocab));
  if (one_in(2)) p.top_p = uniform();
  if (one_in(3)) p.min_p = 0.5f * uniform();
  if (one_in(3)) p.typical_p = 0.05f + 0.9f * uniform();
  if (one_in(3)) p.presence_penalty = 4.0f * uniform() - 2.0f;
  if (one_in(3)) p.frequency_penalty = 4.0f * uniform() - 2.0f;
  if (one_in(3)) p.repetition_penalty = 0.5f + uniform();
  if (one_in(3)) p.logit_bias = {{static_cast<TokenId>(rng() % vocab), 6.0f * uniform() - 3.0f}};
  p.seed = rng();
  for (uint32_t i = rng() % 6; i > 0; --i)
    open.prompt.push_back(static_cast<TokenId>(rng() % vocab));
  for (uint32_t i = rng() % 6; i > 0; --i) {
    open.completion.push_back(static_cast<TokenId>(rng() % vocab));
  }
  if (one_in(3)) {
    p.min_tokens = static_cast<int32_t>(rng() % 6);
    p.banned_until_min = {0, static_cast<TokenId>(rng() % vocab)};
  }
  return open;
}

// Each draw must be the token that the simple distribution has at the same uniform number. A draw
// within 1e-5 of a border between two tokens, or settings within 1e-5 of cutting another set, say
// nothing and are left out; they are few, which is checked.
TEST(SamplerTest, DrawsWhatAFullSortInDoublesDraws) {
  int compared = 0, left_out = 0;
  for (uint32_t seed = 0; seed < 4000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    const int32_t vocab = 5 + static_cast<int32_t>(rng() % (seed % 4 == 0 ? 900 : 200));
    const std::vector<float> logits =
        RandomLogits(rng, vocab, 0.5f + static_cast<float>(rng() % 5));
    SequenceOpen open = RandomOpen(rng, vocab);
    SamplerScratch scratch(vocab);
    const TokenId drawn = DrawOnce(logits, open, scratch);

    const std::map<TokenId, double> expected = SimpleDistribution(logits, open);
    bool near_border = false;
    for (float shift : {-1e-5f, 1e-5f}) {
      SequenceOpen shifted = open;
      if (open.sampling.top_p < 1) shifted.sampling.top_p += shift;
      if (open.sampling.typical_p < 1) shifted.sampling.typical_p += shift;
      if (open.sampling.min_p > 0) shifted.sampling.min_p += shift;
      near_border |= SimpleDistribution(logits, shifted).size() != expected.size();
    }
    const double uniform = UniformDraw(open.sampling.seed, open.completion.size());
    double sum = 0.0;
    TokenId token = expected.rbegin()->first;
    for (const auto& [candidate, probability] : expected) {
      sum += probability;
      near_border |= expected.size() > 1 && std::abs(sum - uniform) < 1e-5;
      if (sum > uniform) {
        token = candidate;
        break;
      }
    }
    if (near_border) {
      ++left_out;
      continue;
    }
    ++compared;
    ASSERT_EQ(drawn, token);
  }
  EXPECT_LT(left_out, compared / 50);
}

// The set of tokens that can be drawn, found by many draws, is exactly the simple one's.
TEST(SamplerTest, DrawsEveryTokenOfTheTruncatedSetAndNoOther) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    const std::vector<float> logits = RandomLogits(rng, 40, 1.0f);
    SequenceOpen open = RandomOpen(rng, 40);
    open.sampling.min_p = 0.02f;  // so that each is drawn often enough to be seen
    SamplerScratch scratch(40);
    const std::map<TokenId, double> expected = SimpleDistribution(logits, open);
    std::set<TokenId> seen;
    for (uint64_t draw = 0; draw < 6000; ++draw) {
      open.sampling.seed = draw;
      seen.insert(DrawOnce(logits, open, scratch));
    }
    std::set<TokenId> tokens;
    for (const auto& [token, probability] : expected) tokens.insert(token);
    EXPECT_EQ(seen, tokens);
  }
}

TEST(SamplerTest, FrequenciesFollowTheDistribution) {
  std::mt19937 rng(3);
  constexpr int kDraws = 40000;
  const std::vector<float> logits = RandomLogits(rng, 30, 1.2f);
  SequenceOpen open;
  open.sampling = {.temperature = 0.8f, .top_p = 0.95f, .seed = 99};
  const std::map<TokenId, double> expected = SimpleDistribution(logits, open);
  SamplerScratch scratch(30);
  SamplerState state;
  state.Open(open);
  std::map<TokenId, int> counts;
  for (int draw = 0; draw < kDraws; ++draw) {  // one sequence: the completion index moves on
    const TokenId token = Sampler::Draw(logits, state, scratch);
    state.Append(token);
    ++counts[token];
  }
  double chi_square = 0.0;
  for (const auto& [token, probability] : expected) {
    const double mean = probability * kDraws;
    chi_square += (counts[token] - mean) * (counts[token] - mean) / mean;
  }
  // 99.9 % point of chi-square with under 30 degrees of freedom is below 58.3.
  EXPECT_LT(chi_square, 58.3);
}

TEST(SamplerTest, LargeVocabulariesGiveTheSameCutsAsAFullSort) {
  constexpr int32_t kVocab = 49152;
  std::mt19937 rng(11);
  const std::vector<float> logits = RandomLogits(rng, kVocab, 2.5f);
  SamplerScratch scratch(kVocab);
  for (SamplingParams params : {SamplingParams{},
                                {.top_p = 0.1f},
                                {.top_p = 0.5f},
                                {.top_p = 0.9f},
                                {.top_p = 0.9999f},
                                {.min_p = 0.001f},
                                {.min_p = 1.0f},
                                {.top_p = 0.9f, .min_p = 0.02f},
                                {.typical_p = 0.7f},
                                {.top_k = 1},
                                {.top_k = 40},
                                {.top_k = 300, .top_p = 0.9f},
                                {.top_k = 20000}}) {
    SCOPED_TRACE(testing::Message() << "top_k " << params.top_k << " top_p " << params.top_p
                                    << " min_p " << params.min_p);
    for (uint64_t seed = 0; seed < 8; ++seed) {
      SequenceOpen open;
      params.seed = seed;
      open.sampling = params;
      const std::map<TokenId, double> expected = SimpleDistribution(logits, open);
      const double uniform = UniformDraw(seed, 0);
      const TokenId drawn = DrawOnce(logits, open, scratch);
      ASSERT_TRUE(expected.contains(drawn));
      double below = 0.0;
      for (auto it = expected.begin(); it->first != drawn; ++it) below += it->second;
      EXPECT_LT(below, uniform + 1e-5);
      EXPECT_GT(below + expected.at(drawn), uniform - 1e-5);
    }
  }
}

// ---- Single promises ----------------------------------------------------------------------------

TEST(SamplerTest, GreedyTiesGoToTheLowestId) {
  SamplerScratch scratch(5);
  SequenceOpen open;
  open.sampling.temperature = 0.0f;
  open.sampling.top_k = 3;  // ignored
  EXPECT_EQ(DrawOnce({1, 7, 3, 7, 7}, open, scratch), 1);
}

TEST(SamplerTest, TopKTiesGoToTheLowestIds) {
  SamplerScratch scratch(6);
  SequenceOpen open;
  open.sampling = {.temperature = 1.0f, .top_k = 2};
  std::set<TokenId> seen;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    open.sampling.seed = seed;
    seen.insert(DrawOnce({5, 0, 5, 5, 5, 0}, open, scratch));
  }
  EXPECT_EQ(seen, (std::set<TokenId>{0, 2}));
}

TEST(SamplerTest, ADrawDependsOnSeedAndCompletionIndexAlone) {
  std::mt19937 rng(5);
  const std::vector<float> logits = RandomLogits(rng, 300, 1.0f);
  SamplerScratch scratch(300);
  SequenceOpen open;
  open.sampling = {.temperature = 1.1f, .top_p = 0.97f, .presence_penalty = 0.3f, .seed = 42};
  SamplerState state;
  state.Open(open);
  std::vector<TokenId> straight;
  for (int i = 0; i < 50; ++i) {
    straight.push_back(Sampler::Draw(logits, state, scratch));
    state.Append(straight.back());
  }
  // Preempted before each draw: the state is rebuilt from the tokens drawn so far.
  for (size_t i = 0; i < straight.size(); ++i) {
    SequenceOpen again = open;
    again.completion.assign(straight.begin(), straight.begin() + static_cast<ptrdiff_t>(i));
    ASSERT_EQ(DrawOnce(logits, again, scratch), straight[i]) << "draw " << i;
  }
}

TEST(SamplerTest, BansHoldUntilMinTokensAndNoLonger) {
  SamplerScratch scratch(4);
  SequenceOpen open;
  open.sampling = {.temperature = 0.0f, .min_tokens = 2, .banned_until_min = {3}};
  const std::vector<float> logits = {0, 1, 2, 9};
  SamplerState state;
  state.Open(open);
  std::vector<TokenId> drawn;
  for (int i = 0; i < 3; ++i) {
    drawn.push_back(Sampler::Draw(logits, state, scratch));
    state.Append(drawn.back());
  }
  EXPECT_EQ(drawn, (std::vector<TokenId>{2, 2, 3}));
}

TEST(SamplerTest, BansThatLeaveNothingGiveWay) {
  SamplerScratch scratch(2);
  SequenceOpen open;
  open.sampling = {.temperature = 0.0f, .min_tokens = 1, .banned_until_min = {0, 1}};
  EXPECT_EQ(DrawOnce({0, 1}, open, scratch), 1);
}

// Allows what it is told, whatever is drawn.
class FixedConstraint final : public TokenConstraint {
 public:
  FixedConstraint(std::vector<bool> allowed, std::optional<TokenId> only)
      : allowed_(std::move(allowed)), only_(only) {}
  absl::Status Consume(TokenId) override { return absl::OkStatus(); }
  absl::Status Next(std::span<uint32_t> words, std::vector<TokenId>& forced) override {
    std::fill(words.begin(), words.end(), 0);
    for (size_t i = 0; i < allowed_.size(); ++i) words[i / 32] |= uint32_t{allowed_[i]} << (i % 32);
    if (only_) forced = {*only_};
    return absl::OkStatus();
  }

 private:
  const std::vector<bool> allowed_;
  const std::optional<TokenId> only_;
};

std::unique_ptr<TokenMask> ReadyMask(std::vector<bool> allowed, std::optional<TokenId> only = {}) {
  const auto vocab = static_cast<int32_t>(allowed.size());
  auto mask = std::make_unique<TokenMask>(
      std::make_unique<FixedConstraint>(std::move(allowed), only), vocab);
  mask->Prepare(0, 0);
  EXPECT_TRUE(mask->Wait());
  return mask;
}

TEST(SamplerTest, AMaskIsAsIfTheModelGaveWhatItWithholdsNoChance) {
  constexpr int32_t kVocab = 75;
  std::mt19937 rng(5);
  SamplerScratch scratch(kVocab);
  for (int round = 0; round < 2000; ++round) {
    SequenceOpen open = RandomOpen(rng, kVocab);
    // Those would lift what has no chance, or put it first where all else is banned.
    open.sampling.logit_bias.clear();
    open.sampling.repetition_penalty = 1.0f;
    open.sampling.presence_penalty = open.sampling.frequency_penalty = 0.0f;
    open.sampling.min_tokens = 0;
    const std::vector<float> logits = RandomLogits(rng, kVocab, 3.0f);
    std::vector<float> without = logits;
    std::vector<bool> allowed(kVocab);
    for (size_t i = 0; i < allowed.size(); ++i) allowed[i] = rng() % 3 == 0;
    allowed[rng() % kVocab] = true;
    for (size_t i = 0; i < allowed.size(); ++i) {
      if (!allowed[i]) without[i] = kUnreachableLogit;
    }
    ASSERT_EQ(DrawOnce(logits, open, scratch, ReadyMask(allowed).get()),
              DrawOnce(without, open, scratch));
  }
}

TEST(SamplerTest, NeitherBansNorBiasesNorPenaltiesNorBrokenLogitsLeadOutOfAMask) {
  constexpr int32_t kVocab = 40;
  std::mt19937 rng(6);
  SamplerScratch scratch(kVocab);
  for (int round = 0; round < 2000; ++round) {
    SequenceOpen open = RandomOpen(rng, kVocab);
    const auto only = static_cast<TokenId>(rng() % kVocab);
    open.sampling.min_tokens = 8;
    open.sampling.banned_until_min = {only};
    open.sampling.logit_bias.emplace_back((only + 1) % kVocab, 100.0f);
    std::vector<bool> allowed(kVocab);
    allowed[static_cast<size_t>(only)] = true;
    std::vector<float> logits = RandomLogits(rng, kVocab, 3.0f);
    if (round % 2 == 0) logits[static_cast<size_t>(only)] = kUnreachableLogit;
    ASSERT_EQ(DrawOnce(logits, open, scratch, ReadyMask(allowed).get()), only);
    ASSERT_EQ(DrawOnce(logits, open, scratch, ReadyMask(allowed, 7).get()), 7);
  }
}

TEST(SamplerTest, ExtremeSettingsStillDrawAToken) {
  SamplerScratch scratch(3);
  for (float temperature : {1e-38f, 1e-6f, 1e30f}) {
    for (float share : {0.0f, 1e-9f, 0.5f, 1.0f}) {
      SequenceOpen open;
      open.sampling = {.temperature = temperature,
                       .top_k = 1000,
                       .top_p = share,
                       .min_p = 1.0f - share,
                       .typical_p = share,
                       .repetition_penalty = 1e-30f,
                       .logit_bias = {{1, 1e38f}, {7, 1.0f}, {-3, 1.0f}}};
      open.completion = {0, 1, 2};
      for (const int32_t top_k : {2, 1000}) {
        open.sampling.top_k = top_k;
        const TokenId token = DrawOnce({-2, 3, kUnreachableLogit}, open, scratch);
        EXPECT_GE(token, 0);
        EXPECT_LT(token, 3);
      }
    }
    SequenceOpen open;
    open.sampling = {.temperature = temperature, .min_p = 5.0f};
    const TokenId token = DrawOnce({-2, 3, kUnreachableLogit}, open, scratch);
    EXPECT_TRUE(token == 1 || (temperature > 1.0f && token == 0)) << token;
  }
}

TEST(SamplerTest, LogitsThatAreNotFiniteBecomeUnreachable) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> logits = {nan, 1.0f, infinity, -infinity, 0.5f};
  ASSERT_TRUE(MakeLogitsFinite(logits));
  EXPECT_EQ(logits, (std::vector<float>{kUnreachableLogit, 1.0f, kUnreachableLogit,
                                        kUnreachableLogit, 0.5f}));
  SamplerScratch scratch(5);
  SequenceOpen open;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    open.sampling.seed = seed;
    const TokenId token = DrawOnce(logits, open, scratch);
    EXPECT_TRUE(token == 1 || token == 4);
  }
  std::vector<float> hopeless = {nan, -infinity};
  EXPECT_FALSE(MakeLogitsFinite(hopeless));
}

TEST(SamplerTest, BestLogprobsAreThePrefixOfAFullSort) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::vector<float> logits(21 + rng() % 500);
    for (float& logit : logits) logit = static_cast<float>(rng() % 50);  // many ties
    std::vector<TokenLogprob> sorted;
    for (size_t i = 0; i < logits.size(); ++i) {
      sorted.push_back({static_cast<TokenId>(i), logits[i] - 2.0f});
    }
    std::stable_sort(
        sorted.begin(), sorted.end(),
        [](const TokenLogprob& a, const TokenLogprob& b) { return a.logprob > b.logprob; });
    const size_t count = rng() % 21;
    std::vector<TokenLogprob> best(count);
    Sampler::BestLogprobs(logits, 2.0f, best);
    sorted.resize(count);
    EXPECT_EQ(best, sorted);
  }
}

TEST(RandomDrawTest, PhiloxGivesItsPublishedAnswers) {
  using Words = std::array<uint32_t, 4>;
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomDrawTest, DrawsAreInTheUnitInterval) {
  double sum = 0.0;
  for (uint64_t i = 0; i < 10000; ++i) {
    const double draw = UniformDraw(17, i);
    ASSERT_GE(draw, 0.0);
    ASSERT_LT(draw, 1.0);
    sum += draw;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.02);
}

}  // namespace
}  // namespace holdfast
