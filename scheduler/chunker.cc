#include "scheduler/chunker.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {

Chunker::Chunker(const StepBudget& budget) : budget_(budget), long_tokens_(budget.long_prefill) {
  CHECK(budget.step > 0 && budget.chunk > 0 && budget.long_prefill > 0 && budget.offline > 0);
}

void Chunker::TakeDecode() {
  CHECK(budget_.step > 0);
  --budget_.step;
  decodes_ = true;
}

bool Chunker::IsLong(int32_t uncomputed_tokens) const {
  return decodes_ && uncomputed_tokens > long_tokens_;
}

int32_t Chunker::RowsFor(int32_t uncomputed_tokens, bool offline) const {
  int32_t rows = std::min({uncomputed_tokens, budget_.chunk, budget_.step});
  if (IsLong(uncomputed_tokens)) rows = std::min(rows, budget_.long_prefill);
  if (offline) rows = std::min(rows, budget_.offline);
  return rows;
}

bool Chunker::HasRoom(int32_t uncomputed_tokens, bool offline) const {
  return RowsFor(uncomputed_tokens, offline) > 0;
}

int32_t Chunker::Take(int32_t uncomputed_tokens, bool offline) {
  CHECK(uncomputed_tokens > 0);
  const int32_t rows = RowsFor(uncomputed_tokens, offline);
  budget_.step -= rows;
  if (IsLong(uncomputed_tokens)) budget_.long_prefill -= rows;
  if (offline) budget_.offline -= rows;
  return rows;
}

}  // namespace holdfast
