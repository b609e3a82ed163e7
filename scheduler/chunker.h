// Deals out the rows of one step: decodes first, then what is left to prefills in the order in
// which they ask. A prefill longer than its share is cut into chunks over several steps.
//
// Why decodes first: a prompt then never holds up the tokens of others longer than one step lasts.
// Beside decodes, and other tenants' prefills, those that are still long share a part of the rows,
// which keeps that step short and leaves room for short ones; offline rows always do, so that who
// comes meanwhile waits for little, and beside online prefills they are a sixteenth of those at
// most: so much longer an online prompt may take for them. Source: chunked prefill, Sarathi-Serve
// (Agrawal et al., OSDI 2024, section 4).
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace holdfast {

struct StepBudget {  // tokens, each > 0
  int32_t step = 0;
  int32_t chunk = 0;         // of one sequence's prefill
  int32_t long_prefill = 0;  // beside decodes: of all that have more than this left
  int32_t offline = 0;       // of all offline sequences
};

class Chunker final {
 public:
  explicit Chunker(const StepBudget& budget);

  void TakeDecode();                              // one row; there must be one left
  void BesideOthers() { beside_others_ = true; }  // long prefills leave rows to those of others
  // Rows for a sequence with `uncomputed_tokens` > 0 left to compute, beyond the `taken` that it
  // has of this step, and `most` now; 0: none are left for it.
  int32_t Take(int32_t uncomputed_tokens, bool offline = false, int32_t taken = 0,
               int32_t most = std::numeric_limits<int32_t>::max());
  bool HasRoom(int32_t uncomputed_tokens, bool offline) const;
  void Add(int32_t rows) { budget_.step += rows; }  // beyond the budget
  // Rows that nobody gets, because others cost more than a row.
  void Withhold(int32_t rows) { budget_.step -= std::min(budget_.step, rows); }
  int32_t left() const { return budget_.step; }

 private:
  int32_t RowsFor(int32_t uncomputed_tokens, bool offline, int32_t taken) const;
  bool IsLong(int32_t uncomputed_tokens) const;

  StepBudget budget_;  // what is left of it
  const int32_t long_tokens_;
  int32_t online_rows_ = 0, offline_rows_ = 0;  // taken by prefills
  bool beside_others_ = false;                  // who decode, or whose prompts are computed
};

}  // namespace holdfast
