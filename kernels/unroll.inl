// Loops unrolled before the compiler decides what lives in registers. Everything is local to the
// including file.

namespace holdfast {
namespace {

template <int kIndex>
struct Constant {
  constexpr operator int() const { return kIndex; }
};

// f(0), f(1), ... with constant indices, unrolled before the compiler decides what lives in
// registers: g++ 12 leaves arrays of accumulators in memory when a loop is unrolled later.
template <int kCount, int kIndex = 0, typename F>
[[gnu::always_inline]] inline void ForEach(F&& f) {
  if constexpr (kIndex < kCount) {
    f(Constant<kIndex>{});
    ForEach<kCount, kIndex + 1>(f);
  }
}
#define HOLDFAST_EACH [&](auto i) __attribute__((always_inline))

}  // namespace
}  // namespace holdfast
