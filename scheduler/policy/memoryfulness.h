// How much the progress of a program says about what is left of it.
//
//   eta = -Corr(k, N - k)      k = turns served, N = turns of the whole program
//
// over all (k, N - k), k = 1 .. N, of the programs that have ended. 1 when all programs have the
// same number of turns, 0 when the number is geometric (no memory), below 0 when those that have
// run long run on.
//
// The sums of one program have closed forms in N, so that a program costs O(1); older programs fade
// by `fade` with each that ends.
//
// Source: Continuum (arXiv 2511.02230), the memoryfulness factor; closed forms and fading are ours.
// Thread: its owner's.
#pragma once

#include <cstdint>

namespace holdfast {

class Memoryfulness final {
 public:
  explicit Memoryfulness(double fade = 0.99);  // in (0, 1]; 1: nothing fades

  void AddProgram(int64_t num_turns);  // > 0
  double value() const;                // in [-1, 1]; 1 while it is undefined

 private:
  const double fade_;
  double n_ = 0, x_ = 0, y_ = 0, xx_ = 0, yy_ = 0, xy_ = 0;  // x = k, y = N - k
};

}  // namespace holdfast
