// Deals out the rows of one step: decodes first, then what is left to prefills in the order in
// which they ask. A prefill longer than its share is cut into chunks over several steps.
//
// Why decodes first: a prompt then never holds up the tokens of others longer than one step lasts.
// Source: chunked prefill, Sarathi-Serve (Agrawal et al., OSDI 2024, section 4).
#pragma once

#include <cstdint>

namespace holdfast {

class Chunker final {
 public:
  // Both > 0: rows of the step, and of one sequence's prefill in it.
  Chunker(int32_t step_tokens_max, int32_t chunk_tokens_max);

  // Rows for a sequence with `uncomputed_tokens` > 0 left to compute; 0: none are left.
  int32_t Take(int32_t uncomputed_tokens);
  int32_t left() const { return left_; }

 private:
  int32_t left_;
  int32_t chunk_tokens_max_;
};

}  // namespace holdfast
