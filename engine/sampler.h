// From one row of logits to one token, and its logprobs.
//
//   logits ─► bias ─► penalties ─► bans ─► mask ─► temperature ─► top_k ─► typical_p ─► top_p ─►
//   min_p ─► draw
//      └────► log-softmax ─► logprob of a token, best alternatives
//
// Each truncation works on the distribution that the one before left, renormalised. Sets are cut by
// partial selection, O(vocabulary), never a full sort; ties go to the lowest id. The draw walks the
// tokens left in order of id with the number UniformDraw(seed, completion index).
// A logit that is not finite counts as unreachable (kUnreachableLogit).
//
// Thread: one SamplerState and one SamplerScratch per call; else any.
// Bounds: scratch and state are sized by the vocabulary and the sequence; a warm draw allocates
// nothing beyond the amortised growth of the penalty counts.
// Sources: top-k (Fan et al., 2018), nucleus (Holtzman et al., 2020), locally typical sampling
// (Meister et al., 2022, section 3), min-p (Nguyen et al., 2024), repetition penalty (Keskar et
// al., 2019, CTRL, section 4.1); presence and frequency as OpenAI defines them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/step_plan.h"
#include "kernels/kernel_table.h"

namespace holdfast {

inline constexpr float kUnreachableLogit = -1e30f;

// Replaces what is not finite by kUnreachableLogit. False: nothing was finite.
bool MakeLogitsFinite(std::span<float> logits);

// What one sequence's sampling depends on beside its logits.
class SamplerState final {
 public:
  // Forgets what it held.
  void Open(const SequenceOpen& open);
  // A token was drawn, or forced: the next draw has the next completion index.
  void Append(TokenId token);

  const SamplingParams& params() const { return params_; }
  int64_t completion_index() const { return completion_index_; }

 private:
  friend class Sampler;

  struct Seen {
    int32_t completion_count = 0;  // 0: in the prompt only
  };

  SamplingParams params_;
  bool has_penalties_ = false;
  int64_t completion_index_ = 0;
  absl::flat_hash_map<TokenId, Seen> seen_;  // empty unless there are penalties
};

// Memory of one draw at a time.
class SamplerScratch final {
 public:
  // Any path's kernels draw the same.
  explicit SamplerScratch(int32_t vocab_size, const KernelTable& kernels = KernelsOf(BestIsa()));

 private:
  friend class Sampler;

  // Fills weights_ from its beginning on; `logits` may lie there.
  void Weigh(std::span<const float> logits, float best, float temperature);

  struct Candidate {
    TokenId token;
    float weight;  // exp(-depth), not normalised
    float depth;   // (best logit - logit) / temperature, >= 0
    float key;     // what the truncation at work sorts by, ascending
  };
  using Candidates = std::vector<Candidate>;

  static constexpr size_t kBlock = 256;  // weights that a draw passes over at once

  const KernelTable& kernels_;
  std::vector<float> logits_;
  std::vector<float> weights_;  // by token
  std::vector<double> masses_;  // by block of weights
  Candidates candidates_;       // in order of id
  Candidates selection_;        // a copy to select in
};

class Sampler final {
 public:
  // The next token of a sequence; does not append it to the state. `logits` are finite. If bans and
  // biases leave nothing reachable they give way: a request cannot make a draw fail. A mask, which
  // is ready, never does.
  static TokenId Draw(std::span<const float> logits, const SamplerState& state,
                      SamplerScratch& scratch, const TokenMask* mask = nullptr);

  // The out.size() best tokens by log-softmax, best first, ties by lowest id; `log_sum_exp` is that
  // of all logits. out.size() <= logits.size().
  static void BestLogprobs(std::span<const float> logits, float log_sum_exp,
                           std::span<TokenLogprob> out);

 private:
  using Candidate = SamplerScratch::Candidate;

  static bool Before(const Candidate& a, const Candidate& b);  // by (key, token)
  struct Adjusted {
    std::span<const float> logits;
    float best = 0.0f;
  };
  static Adjusted Adjust(std::span<const float> logits, const SamplerState& state,
                         const TokenMask* mask, SamplerScratch& scratch);
  // What the mask does not allow is put below all that is unreachable otherwise.
  static Adjusted Withhold(std::span<const float> logits, const TokenMask* mask,
                           SamplerScratch& scratch);
  static double MassOf(const std::vector<Candidate>& candidates);
  // Who may be drawn, before truncation; returns their mass. GatherBest is for top_k. What Gather
  // leaves out, though not of the mass, the truncations that `params` asks for would.
  static double GatherBest(std::span<const float> logits, float best, const SamplingParams& params,
                           SamplerScratch& scratch);
  static double Gather(std::span<const float> logits, float best, const SamplingParams& params,
                       SamplerScratch& scratch);
  static double KeepTypical(double share, double mass, SamplerScratch& scratch);
  static void KeepTopP(double wanted, SamplerScratch& scratch);
  static void KeepMinP(float min_p, SamplerScratch& scratch);
  // Keeps the shortest run of candidates in ascending (key, token) that holds this mass.
  static void KeepMass(double wanted, SamplerScratch& scratch);
  static TokenId Pick(double uniform, const SamplerScratch& scratch);
  static TokenId PickOfAll(double uniform, SamplerScratch& scratch);
};

}  // namespace holdfast
