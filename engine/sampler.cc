#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "config/base/check.h"
#include "engine/random_draw.h"

namespace holdfast {
namespace {

constexpr float kLogitMax = 1e30f;

// What a penalty or bias made of a finite logit, kept finite.
float Bounded(float logit) {
  if (!(logit > kUnreachableLogit)) return kUnreachableLogit;  // NaN too
  return std::min(logit, kLogitMax);
}

// The lowest id among the best. Its value first, in lanes that the compiler runs side by side.
TokenId Best(std::span<const float> logits) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> lanes;
  lanes.fill(-std::numeric_limits<float>::infinity());
  const size_t whole = logits.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = logits[i + lane] > lanes[lane] ? logits[i + lane] : lanes[lane];
    }
  }
  float best = *std::max_element(lanes.begin(), lanes.end());
  for (size_t i = whole; i < logits.size(); ++i) best = std::max(best, logits[i]);
  return static_cast<TokenId>(std::find(logits.begin(), logits.end(), best) - logits.begin());
}

// Read alone and in lanes, as a step on one thread waits for it: 0 * x is 0 for finite x, else NaN.
bool AllFinite(std::span<const float> logits) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> lanes{};
  const size_t whole = logits.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += 0.0f * logits[i + lane];
  }
  float sum = 0.0f;
  for (const float lane : lanes) sum += lane;
  for (size_t i = whole; i < logits.size(); ++i) sum += 0.0f * logits[i];
  return sum == 0.0f;
}

// Puts what the mask does not allow out of reach: below what is unreachable otherwise.
void Withhold(std::span<const uint32_t> words, std::span<float> logits) {
  constexpr size_t kWordBits = 32;
  constexpr float kWithheld = -std::numeric_limits<float>::infinity();
  for (size_t begin = 0; begin < logits.size(); begin += kWordBits) {
    const uint32_t word = words[begin / kWordBits];
    const std::span<float> run = logits.subspan(begin, std::min(kWordBits, logits.size() - begin));
    if (word == 0) {
      std::fill(run.begin(), run.end(), kWithheld);
      continue;
    }
    for (size_t i = 0; i < run.size(); ++i) {
      if ((word >> i & 1) == 0) run[i] = kWithheld;
    }
  }
}

// exp(-depth) for depth >= 0, to about 1e-7 relative: 2^n * polynomial on [-ln2/2, ln2/2]. Ours
// rather than the C library's, so that it is the same everywhere and the compiler can run four at
// once: a third of the time of a draw without truncation.
inline float ExpOfMinus(float depth) {
  constexpr float kDepthMax = 87.0f;
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRoundToInteger = 12582912.0f;  // 1.5 * 2^23
  const float x = -(depth < kDepthMax ? depth : kDepthMax);
  const float shifted = x * kLog2E + kRoundToInteger;
  const float n = shifted - kRoundToInteger;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int32_t exponent =
      std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRoundToInteger);
  const float scaled = p * std::bit_cast<float>((exponent + 127) << 23);
  return depth < kDepthMax ? scaled : 0.0f;
}

// Sum in eight lanes, one fixed order.
template <typename Range, typename Value>
double SumOf(const Range& range, Value value) {
  constexpr size_t kLanes = 8;
  std::array<double, kLanes> lanes{};
  const size_t whole = range.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += value(range[i + lane]);
  }
  double sum = 0.0;
  for (size_t i = whole; i < range.size(); ++i) sum += value(range[i]);
  for (double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

bool MakeLogitsFinite(std::span<float> logits) {
  if (AllFinite(logits)) return !logits.empty();
  bool any_finite = false;
  for (float& logit : logits) {
    const bool finite = std::abs(logit) <= std::numeric_limits<float>::max();
    any_finite |= finite;
    logit = finite ? logit : kUnreachableLogit;
  }
  return any_finite;
}

// ---- State --------------------------------------------------------------------------------------

void SamplerState::Open(const SequenceOpen& open) {
  constexpr size_t kCompletionTokensExpected = 1024;
  params_ = open.sampling;
  has_penalties_ = params_.presence_penalty != 0.0f || params_.frequency_penalty != 0.0f ||
                   params_.repetition_penalty != 1.0f;
  completion_index_ = 0;
  seen_.clear();
  if (has_penalties_) {
    seen_.reserve(open.prompt.size() + open.completion.size() + kCompletionTokensExpected);
    if (params_.repetition_penalty != 1.0f) {
      for (TokenId token : open.prompt) seen_.try_emplace(token);
    }
  }
  for (TokenId token : open.completion) Append(token);
}

void SamplerState::Append(TokenId token) {
  ++completion_index_;
  if (has_penalties_) ++seen_[token].completion_count;
}

SamplerScratch::SamplerScratch(int32_t vocab_size) : logits_(static_cast<size_t>(vocab_size)) {
  candidates_.reserve(logits_.size());
  selection_.reserve(logits_.size());
}

bool Sampler::Before(const Candidate& a, const Candidate& b) {
  return a.key != b.key ? a.key < b.key : a.token < b.token;
}

// ---- Draw ---------------------------------------------------------------------------------------

TokenId Sampler::Draw(std::span<const float> logits, const SamplerState& state,
                      SamplerScratch& scratch, const TokenMask* mask) {
  CHECK(logits.size() == scratch.logits_.size());
  if (mask != nullptr && mask->only()) return *mask->only();
  const SamplingParams& params = state.params_;
  const std::span<const float> adjusted = Adjust(logits, state, mask, scratch);
  if (!(params.temperature > 0.0f)) return Best(adjusted);

  Gather(adjusted, params, scratch);
  if (params.typical_p < 1.0f) KeepTypical(params.typical_p, scratch);
  if (params.top_p < 1.0f) KeepTopP(params.top_p, scratch);
  if (params.min_p > 0.0f) KeepMinP(params.min_p, scratch);
  return Pick(UniformDraw(params.seed, static_cast<uint64_t>(state.completion_index_)), scratch);
}

std::span<const float> Sampler::Adjust(std::span<const float> logits, const SamplerState& state,
                                       const TokenMask* mask, SamplerScratch& scratch) {
  const SamplingParams& params = state.params_;
  const bool bans = state.completion_index_ < params.min_tokens && !params.banned_until_min.empty();
  const bool adjusts = !params.logit_bias.empty() || bans || !state.seen_.empty();
  if (!adjusts && mask == nullptr) return logits;

  std::vector<float>& out = scratch.logits_;
  std::copy(logits.begin(), logits.end(), out.begin());
  const auto in_vocabulary = [&](TokenId token) {
    return token >= 0 && static_cast<size_t>(token) < out.size();
  };
  for (const auto& [token, bias] : params.logit_bias) {
    if (in_vocabulary(token)) out[token] = Bounded(out[token] + bias);
  }
  for (const auto& [token, seen] : state.seen_) {
    if (!in_vocabulary(token)) continue;
    float logit = out[token];
    logit = logit > 0.0f ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    logit -= static_cast<float>(seen.completion_count) * params.frequency_penalty;
    if (seen.completion_count > 0) logit -= params.presence_penalty;
    out[token] = Bounded(logit);
  }
  if (bans) {
    for (TokenId token : params.banned_until_min) {
      if (in_vocabulary(token)) out[token] = kUnreachableLogit;
    }
  }
  if (mask != nullptr) Withhold(mask->words(), out);
  if (out[Best(out)] > kUnreachableLogit) return out;
  if (mask == nullptr) return logits;
  std::copy(logits.begin(), logits.end(), out.begin());
  Withhold(mask->words(), out);
  return out;
}

void Sampler::Gather(std::span<const float> logits, const SamplingParams& params,
                     SamplerScratch& scratch) {
  std::vector<Candidate>& all = scratch.candidates_;
  const float best = logits[Best(logits)];
  const size_t top_k = params.top_k > 0 ? static_cast<size_t>(params.top_k) : logits.size();
  if (top_k < logits.size()) {
    // One pass with a border that rises: whenever twice as many as wanted have gathered, the better
    // half stays. A later equal of the border has the higher id and is out.
    std::vector<Candidate>& order = scratch.selection_;
    const size_t gathered_max = 2 * top_k + 256;
    const auto keep_best = [&] {
      std::nth_element(order.begin(), order.begin() + static_cast<ptrdiff_t>(top_k) - 1,
                       order.end(), Before);
      order.resize(top_k);
      return -order.back().key;
    };
    float border = -std::numeric_limits<float>::infinity();
    order.clear();
    for (size_t i = 0; i < logits.size(); ++i) {
      if (!(logits[i] > border)) continue;
      order.push_back({.token = static_cast<TokenId>(i), .key = -logits[i]});
      if (order.size() == gathered_max) border = keep_best();
    }
    if (order.size() > top_k) keep_best();
    std::sort(order.begin(), order.end(),
              [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
    std::swap(all, order);
  } else {
    all.resize(logits.size());
    for (size_t i = 0; i < logits.size(); ++i) all[i].token = static_cast<TokenId>(i);
  }
  for (Candidate& c : all) {
    c.depth = (best - logits[c.token]) / params.temperature;
    c.weight = ExpOfMinus(c.depth);
  }
}

void Sampler::KeepTypical(double share, SamplerScratch& scratch) {
  std::vector<Candidate>& all = scratch.candidates_;
  const double total = SumOf(all, [](const Candidate& c) { return c.weight; });
  const double log_total = std::log(total);
  // -log p = depth + log(total); the entropy is its mean.
  const double entropy =
      log_total + SumOf(all, [](const Candidate& c) {
                    return c.weight > 0.0f ? static_cast<double>(c.weight) * c.depth : 0.0;
                  }) / total;
  for (Candidate& c : all) {
    c.key = static_cast<float>(std::abs(c.depth + log_total - entropy));
  }
  KeepMass(share, scratch);
}

void Sampler::KeepTopP(double share, SamplerScratch& scratch) {
  for (Candidate& c : scratch.candidates_) c.key = c.depth;
  KeepMass(share, scratch);
}

void Sampler::KeepMinP(float min_p, SamplerScratch& scratch) {
  std::vector<Candidate>& all = scratch.candidates_;
  float best = 0.0f;
  for (const Candidate& c : all) best = std::max(best, c.weight);
  const float border = std::min(min_p, 1.0f) * best;
  std::erase_if(all, [border](const Candidate& c) { return c.weight < border; });
}

void Sampler::KeepMass(double share, SamplerScratch& scratch) {
  std::vector<Candidate>& all = scratch.candidates_;
  const auto weight = [](const Candidate& c) { return c.weight; };
  double wanted = share * SumOf(all, weight);

  // Mostly a few hundred candidates close to the best hold the mass: look there first. They are
  // a prefix of the order whatever the border, so the result is the same.
  std::vector<Candidate>& part = scratch.selection_;
  float best_key = std::numeric_limits<float>::infinity();
  for (const Candidate& c : all) best_key = std::min(best_key, c.key);
  for (const float reach : {3.0f, 9.0f, std::numeric_limits<float>::infinity()}) {
    part.clear();
    for (const Candidate& c : all) {
      if (c.key <= best_key + reach) part.push_back(c);
    }
    if (part.size() == all.size() || SumOf(part, weight) >= wanted) break;
  }

  // Selection by mass: halve, and go on in the half where the wanted mass is reached. What lies
  // before `begin` is in and its mass already taken off `wanted`.
  auto begin = part.begin();
  auto end = part.end();
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, Before);
    double mass = 0.0;
    for (auto c = begin; c != middle; ++c) mass += c->weight;
    if (mass >= wanted) {
      end = middle;
    } else {
      wanted -= mass;
      begin = middle;
    }
  }
  const Candidate last = *begin;
  std::erase_if(all, [&](const Candidate& c) { return Before(last, c); });
}

TokenId Sampler::Pick(double uniform, const SamplerScratch& scratch) {
  const std::vector<Candidate>& all = scratch.candidates_;
  double total = 0.0;
  for (const Candidate& c : all) total += c.weight;
  const double target = uniform * total;
  double sum = 0.0;
  TokenId last_reachable = all.front().token;
  for (const Candidate& c : all) {
    if (!(c.weight > 0.0f)) continue;
    sum += c.weight;
    last_reachable = c.token;
    if (sum > target) break;
  }
  return last_reachable;
}

// ---- Logprobs -----------------------------------------------------------------------------------

void Sampler::BestLogprobs(std::span<const float> logits, float log_sum_exp,
                           std::span<TokenLogprob> out) {
  CHECK(out.size() <= logits.size());
  size_t filled = 0;
  for (size_t i = 0; i < logits.size() && !out.empty(); ++i) {
    const float logit = logits[i];
    if (filled == out.size() && !(logit > out.back().logprob)) continue;
    size_t place = filled < out.size() ? filled++ : filled - 1;
    for (; place > 0 && out[place - 1].logprob < logit; --place) out[place] = out[place - 1];
    out[place] = {.token = static_cast<TokenId>(i), .logprob = logit};
  }
  for (TokenLogprob& entry : out) entry.logprob -= log_sum_exp;
}

}  // namespace holdfast
