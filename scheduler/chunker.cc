#include "scheduler/chunker.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {
namespace {

constexpr int32_t kOnlineRowsOfOffline = 16;

}  // namespace

Chunker::Chunker(const StepBudget& budget) : budget_(budget), long_tokens_(budget.long_prefill) {
  CHECK(budget.step > 0 && budget.chunk > 0 && budget.long_prefill > 0 && budget.offline > 0);
}

void Chunker::TakeDecode() {
  CHECK(budget_.step > 0);
  --budget_.step;
  beside_others_ = true;
}

bool Chunker::IsLong(int32_t uncomputed_tokens) const {
  return beside_others_ && uncomputed_tokens > long_tokens_;
}

int32_t Chunker::RowsFor(int32_t uncomputed_tokens, bool offline, int32_t taken) const {
  int32_t rows = std::min(std::min(uncomputed_tokens, budget_.chunk) - taken, budget_.step);
  if (IsLong(uncomputed_tokens)) rows = std::min(rows, budget_.long_prefill);
  if (offline) rows = std::min(rows, budget_.offline);
  if (offline && online_rows_ > 0) {
    rows = std::min(rows, std::max(online_rows_ / kOnlineRowsOfOffline, 1) - offline_rows_);
  }
  return std::max(rows, 0);
}

bool Chunker::HasRoom(int32_t uncomputed_tokens, bool offline) const {
  return RowsFor(uncomputed_tokens, offline, 0) > 0;
}

int32_t Chunker::Take(int32_t uncomputed_tokens, bool offline, int32_t taken, int32_t most) {
  CHECK(uncomputed_tokens > 0 && taken >= 0 && most >= 0);
  const int32_t rows = std::min(RowsFor(uncomputed_tokens, offline, taken), most);
  budget_.step -= rows;
  if (IsLong(uncomputed_tokens)) budget_.long_prefill -= rows;
  if (offline) budget_.offline -= rows;
  (offline ? offline_rows_ : online_rows_) += rows;
  return rows;
}

}  // namespace holdfast
