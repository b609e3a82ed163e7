// Deals out the rows of one step: decodes first, then what is left to prefills in the order in
// which they ask. A prefill longer than its share is cut into chunks over several steps.
//
// Why decodes first: a prompt then never holds up the tokens of others longer than one step lasts.
// Beside decodes, prefills that are still long share a part of the rows, which keeps that step
// short and leaves room for short ones; offline prefills always do, so that who comes meanwhile
// waits for little.
// Source: chunked prefill, Sarathi-Serve (Agrawal et al., OSDI 2024, section 4).
#pragma once

#include <cstdint>

namespace holdfast {

struct StepBudget {  // tokens, each > 0
  int32_t step = 0;
  int32_t chunk = 0;         // of one sequence's prefill
  int32_t long_prefill = 0;  // beside decodes: of all that have more than this left
  int32_t offline = 0;       // of all offline prefills
};

class Chunker final {
 public:
  explicit Chunker(const StepBudget& budget);

  void TakeDecode();  // one row; there must be one left
  // Rows for a sequence with `uncomputed_tokens` > 0 left to compute; 0: none are left for it.
  int32_t Take(int32_t uncomputed_tokens, bool offline = false);
  bool HasRoom(int32_t uncomputed_tokens, bool offline) const;
  int32_t left() const { return budget_.step; }

 private:
  int32_t RowsFor(int32_t uncomputed_tokens, bool offline) const;
  bool IsLong(int32_t uncomputed_tokens) const;

  StepBudget budget_;  // what is left of it
  const int32_t long_tokens_;
  bool decodes_ = false;
};

}  // namespace holdfast
