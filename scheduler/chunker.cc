#include "scheduler/chunker.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {

Chunker::Chunker(int32_t step_tokens_max, int32_t chunk_tokens_max)
    : left_(step_tokens_max), chunk_tokens_max_(chunk_tokens_max) {
  CHECK(step_tokens_max > 0 && chunk_tokens_max > 0);
}

int32_t Chunker::Take(int32_t uncomputed_tokens) {
  CHECK(uncomputed_tokens > 0);
  const int32_t rows = std::min({uncomputed_tokens, chunk_tokens_max_, left_});
  left_ -= rows;
  return rows;
}

}  // namespace holdfast
