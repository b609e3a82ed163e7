#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "config/base/check.h"
#include "engine/random_draw.h"

namespace holdfast {
namespace {

constexpr float kLogitMax = 1e30f;

// Loops over a vocabulary take so many values at a time, which the compiler computes side by side,
// and what is left over one by one.
constexpr size_t kLanes = 16;

// How far from the first, in an order of candidates, those are sought that hold a share of the
// mass: mostly a few hundred, close to it. What is cut off lies behind them in the order.
constexpr float kReachesAll = std::numeric_limits<float>::max();
constexpr std::array<float, 3> kReaches = {3.0f, 9.0f, kReachesAll};

// What a penalty or bias made of a finite logit, kept finite.
float Bounded(float logit) {
  if (!(logit > kUnreachableLogit)) return kUnreachableLogit;  // NaN too
  return std::min(logit, kLogitMax);
}

float BestOf(std::span<const float> logits) {
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
  return best;
}

// Read alone, as a step on one thread waits for it: 0 * x is 0 for finite x, else NaN.
bool AllFinite(std::span<const float> logits) {
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

// Sum in lanes, one fixed order.
template <typename Range, typename Value>
double SumOf(const Range& range, Value value) {
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

double SumOf(std::span<const float> weights) {
  return SumOf(weights, [](float weight) { return static_cast<double>(weight); });
}

struct Reached {
  size_t index = 0;
  double before = 0.0;  // the sum of what lies before
};

// The first index where the sum of the weights, from `sum` on, exceeds the target; else, as sums
// are rounded, the last one that weighs anything.
template <typename Weight>
Reached Reach(double target, double sum, size_t size, Weight weight) {
  Reached reached = {.before = sum};
  for (size_t i = 0; i < size && !(sum > target); ++i) {
    if (!(weight(i) > 0.0)) continue;
    reached = {.index = i, .before = sum};
    sum += weight(i);
  }
  return reached;
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

SamplerScratch::SamplerScratch(int32_t vocab_size, const KernelTable& kernels)
    : kernels_(kernels),
      logits_(static_cast<size_t>(vocab_size)),
      weights_(logits_.size()),
      masses_((logits_.size() + kBlock - 1) / kBlock) {
  candidates_.reserve(logits_.size());
  selection_.reserve(logits_.size());
}

void SamplerScratch::Weigh(std::span<const float> logits, float best, float temperature) {
  kernels_.weigh_logits(logits.data(), static_cast<int64_t>(logits.size()), best, temperature,
                        weights_.data());
}

double Sampler::MassOf(const std::vector<Candidate>& candidates) {
  return SumOf(candidates, [](const Candidate& c) { return c.weight; });
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
  const auto [adjusted, best] = Adjust(logits, state, mask, scratch);
  if (!(params.temperature > 0.0f)) {
    return static_cast<TokenId>(std::find(adjusted.begin(), adjusted.end(), best) -
                                adjusted.begin());
  }

  const double uniform = UniformDraw(params.seed, static_cast<uint64_t>(state.completion_index_));
  double mass = 0.0;
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < adjusted.size()) {
    mass = GatherBest(adjusted, best, params, scratch);
  } else {
    scratch.Weigh(adjusted, best, params.temperature);
    const bool cuts = params.typical_p < 1.0f || params.top_p < 1.0f || params.min_p > 0.0f;
    if (!cuts) return PickOfAll(uniform, scratch);
    mass = Gather(adjusted, best, params, scratch);
  }
  if (params.typical_p < 1.0f) mass = KeepTypical(params.typical_p, mass, scratch);
  if (params.top_p < 1.0f) KeepTopP(params.top_p * mass, scratch);
  if (params.min_p > 0.0f) KeepMinP(params.min_p, scratch);
  return Pick(uniform, scratch);
}

Sampler::Adjusted Sampler::Adjust(std::span<const float> logits, const SamplerState& state,
                                  const TokenMask* mask, SamplerScratch& scratch) {
  const SamplingParams& params = state.params_;
  const bool bans = state.completion_index_ < params.min_tokens && !params.banned_until_min.empty();
  const bool adjusts = !params.logit_bias.empty() || bans || !state.seen_.empty();
  if (!adjusts) return Withhold(logits, mask, scratch);

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
  const Adjusted adjusted = Withhold(out, mask, scratch);
  return adjusted.best > kUnreachableLogit ? adjusted : Withhold(logits, mask, scratch);
}

Sampler::Adjusted Sampler::Withhold(std::span<const float> logits, const TokenMask* mask,
                                    SamplerScratch& scratch) {
  if (mask == nullptr) return {.logits = logits, .best = BestOf(logits)};
  CHECK(mask->words().size() * 32 >= logits.size());
  const float best = scratch.kernels_.withhold(logits.data(), static_cast<int64_t>(logits.size()),
                                               mask->words().data(), scratch.logits_.data());
  return {.logits = scratch.logits_, .best = best};
}

double Sampler::GatherBest(std::span<const float> logits, float best, const SamplingParams& params,
                           SamplerScratch& scratch) {
  // One pass with a border that rises: whenever twice as many as wanted have gathered, the better
  // half stays. A later equal of the border has the higher id and is out.
  std::vector<Candidate>& order = scratch.candidates_;
  const auto top_k = static_cast<size_t>(params.top_k);
  const size_t gathered_max = 2 * top_k + 256;
  const auto keep_best = [&] {
    std::nth_element(order.begin(), order.begin() + static_cast<ptrdiff_t>(top_k) - 1, order.end(),
                     Before);
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
  const std::span<float> weights = std::span(scratch.weights_).first(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    weights[i] = logits[order[i].token];
    order[i].depth = (best - weights[i]) / params.temperature;
  }
  scratch.Weigh(weights, best, params.temperature);
  for (size_t i = 0; i < order.size(); ++i) order[i].weight = weights[i];
  return MassOf(order);
}

double Sampler::Gather(std::span<const float> logits, float best, const SamplingParams& params,
                       SamplerScratch& scratch) {
  std::vector<Candidate>& all = scratch.candidates_;
  // Within this depth, which a logit that a mask withholds never is.
  const auto gather = [&](float reach) {
    const float border = std::max(best - reach * params.temperature, -kReachesAll);
    all.clear();
    for (size_t i = 0; i < logits.size(); ++i) {
      if (logits[i] < border) continue;
      all.push_back({.token = static_cast<TokenId>(i),
                     .weight = scratch.weights_[i],
                     .depth = (best - logits[i]) / params.temperature});
    }
    return MassOf(all);
  };
  if (params.typical_p < 1.0f) return gather(kReachesAll);
  if (!(params.top_p < 1.0f)) return gather(1.0f - std::log(std::min(params.min_p, 1.0f)));
  const double mass = SumOf(scratch.weights_);
  const double wanted = params.top_p * mass;
  for (const float reach : kReaches) {
    if (gather(reach) >= wanted) break;
  }
  return mass;
}

double Sampler::KeepTypical(double share, double mass, SamplerScratch& scratch) {
  std::vector<Candidate>& all = scratch.candidates_;
  const double log_mass = std::log(mass);
  // -log p = depth + log(mass); the entropy is its mean.
  const double entropy =
      log_mass + SumOf(all, [](const Candidate& c) {
                   return c.weight > 0.0f ? static_cast<double>(c.weight) * c.depth : 0.0;
                 }) / mass;
  for (Candidate& c : all) {
    c.key = static_cast<float>(std::abs(c.depth + log_mass - entropy));
  }
  KeepMass(share * mass, scratch);
  return MassOf(all);
}

void Sampler::KeepTopP(double wanted, SamplerScratch& scratch) {
  for (Candidate& c : scratch.candidates_) c.key = c.depth;
  KeepMass(wanted, scratch);
}

void Sampler::KeepMinP(float min_p, SamplerScratch& scratch) {
  std::vector<Candidate>& all = scratch.candidates_;
  float best = 0.0f;
  for (const Candidate& c : all) best = std::max(best, c.weight);
  const float border = std::min(min_p, 1.0f) * best;
  std::erase_if(all, [border](const Candidate& c) { return c.weight < border; });
}

void Sampler::KeepMass(double wanted, SamplerScratch& scratch) {
  std::vector<Candidate>& all = scratch.candidates_;
  // As in Gather: what holds the mass lies close to the first.
  std::vector<Candidate>& part = scratch.selection_;
  float least_key = std::numeric_limits<float>::infinity();
  for (const Candidate& c : all) least_key = std::min(least_key, c.key);
  for (const float reach : kReaches) {
    part.clear();
    for (const Candidate& c : all) {
      if (c.key <= least_key + reach) part.push_back(c);
    }
    if (part.size() == all.size() || MassOf(part) >= wanted) break;
  }
  CHECK(!part.empty());

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
  const Reached reached =
      Reach(uniform * MassOf(all), 0.0, all.size(), [&](size_t i) { return all[i].weight; });
  return all[reached.index].token;
}

TokenId Sampler::PickOfAll(double uniform, SamplerScratch& scratch) {
  const std::span<const float> weights = scratch.weights_;
  double total = 0.0;
  for (size_t block = 0; block < scratch.masses_.size(); ++block) {
    const size_t begin = block * SamplerScratch::kBlock;
    const size_t size = std::min(SamplerScratch::kBlock, weights.size() - begin);
    total += scratch.masses_[block] = SumOf(weights.subspan(begin, size));
  }
  const double target = uniform * total;
  const Reached block =
      Reach(target, 0.0, scratch.masses_.size(), [&](size_t i) { return scratch.masses_[i]; });
  const size_t begin = block.index * SamplerScratch::kBlock;
  const size_t size = std::min(SamplerScratch::kBlock, weights.size() - begin);
  const Reached within =
      Reach(target, block.before, size, [&](size_t i) { return weights[begin + i]; });
  return static_cast<TokenId>(begin + within.index);
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
