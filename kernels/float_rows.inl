// The f32 kernels of a row: norms, rotations, activations. Written once over
// the lanes of the including path.

namespace holdfast {
namespace {

void RmsNorm(const float* x, int64_t x_stride, const float* weight, int32_t rows, int32_t hidden,
             float eps, float* out, int64_t out_stride) {
  const int32_t rest = hidden % 16, whole = hidden - rest;
  for (int32_t r = 0; r < rows; ++r) {
    const float* row = x + r * x_stride;
    float* out_row = out + r * out_stride;
    F32x16 squares = Zero();
    for (int32_t h = 0; h < whole; h += 16) {
      const F32x16 v = Load(row + h);
      squares = Fma(v, v, squares);
    }
    if (rest != 0) {
      const F32x16 v = LoadPartial(row + whole, rest);
      squares = Fma(v, v, squares);
    }
    const float mean = SumLanes(squares) / static_cast<float>(hidden);
    const F32x16 inverse = Splat(1.0f / __builtin_sqrtf(mean + eps));
    for (int32_t h = 0; h < whole; h += 16) {
      Store(out_row + h, Mul(Mul(Load(row + h), inverse), Load(weight + h)));
    }
    if (rest != 0) {
      const F32x16 v = Mul(LoadPartial(row + whole, rest), inverse);
      StorePartial(out_row + whole, rest, Mul(v, LoadPartial(weight + whole, rest)));
    }
  }
}

// (a, b) -> (a cos - b sin, a sin + b cos), the first product rounded, the second fused.
inline void Rotate(F32x16& a, F32x16& b, F32x16 cosine, F32x16 sine) {
  const F32x16 negative_b = Sub(Zero(), b);
  const F32x16 rotated_a = Fma(negative_b, sine, Mul(a, cosine));
  b = Fma(a, sine, Mul(b, cosine));
  a = rotated_a;
}

// Up to 16 pairs from pair `p` of one head on.
inline void RotatePairs(float* head, int32_t p, int32_t pairs, int32_t half, RopePairing pairing,
                        const float* cos_sin) {
  F32x16 a, b, cosine, sine;
  if (pairs == 16) {
    LoadPairs(cos_sin + 2 * p, cosine, sine);
    if (pairing == RopePairing::kInterleaved) {
      LoadPairs(head + 2 * p, a, b);
      Rotate(a, b, cosine, sine);
      StorePairs(head + 2 * p, a, b);
    } else {
      a = Load(head + p);
      b = Load(head + half + p);
      Rotate(a, b, cosine, sine);
      Store(head + p, a);
      Store(head + half + p, b);
    }
    return;
  }
  float pair[32] = {};
  const size_t pair_bytes = static_cast<size_t>(pairs) * 2 * sizeof(float);
  __builtin_memcpy(pair, cos_sin + 2 * p, pair_bytes);
  LoadPairs(pair, cosine, sine);
  if (pairing == RopePairing::kInterleaved) {
    __builtin_memcpy(pair, head + 2 * p, pair_bytes);
    LoadPairs(pair, a, b);
    Rotate(a, b, cosine, sine);
    StorePairs(pair, a, b);
    __builtin_memcpy(head + 2 * p, pair, pair_bytes);
  } else {
    a = LoadPartial(head + p, pairs);
    b = LoadPartial(head + half + p, pairs);
    Rotate(a, b, cosine, sine);
    StorePartial(head + p, pairs, a);
    StorePartial(head + half + p, pairs, b);
  }
}

void Rope(float* heads, int32_t num_heads, int32_t head_dim, int32_t rope_dim, RopePairing pairing,
          const float* cos_sin) {
  const int32_t half = rope_dim / 2;
  for (int32_t h = 0; h < num_heads; ++h) {
    for (int32_t p = 0; p < half; p += 16) {
      RotatePairs(heads + int64_t{h} * head_dim, p, Least(16, half - p), half, pairing, cos_sin);
    }
  }
}

inline F32x16 SwigluLanes(F32x16 gate, F32x16 up) {
  const F32x16 denominator = Add(Splat(1.0f), Exp(Sub(Zero(), gate)));
  return Mul(Div(gate, denominator), up);
}

void Swiglu(const float* gate, const float* up, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) Store(out + i, SwigluLanes(Load(gate + i), Load(up + i)));
  if (const int64_t rest = count - i; rest > 0) {
    StorePartial(out + i, rest,
                 SwigluLanes(LoadPartial(gate + i, rest), LoadPartial(up + i, rest)));
  }
}

void AddInPlace(const float* x, int64_t count, float* inout) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) Store(inout + i, Add(Load(inout + i), Load(x + i)));
  if (const int64_t rest = count - i; rest > 0) {
    StorePartial(inout + i, rest, Add(LoadPartial(inout + i, rest), LoadPartial(x + i, rest)));
  }
}

float LogSumExp(const float* logits, int32_t count) {
  const F32x16 lowest = Splat(-kInfinity);
  F32x16 most = lowest, sum = Zero();
  for (int32_t i = 0; i < count; i += 16) {
    const int32_t lanes = Least(16, count - i);
    const F32x16 v = lanes == 16
                         ? Load(logits + i)
                         : KeepLanes(LoadPartial(logits + i, lanes), LanesOf(0, lanes), -kInfinity);
    most = Max(v, most);
  }
  const float top = MaxLanes(most);
  if (top == -kInfinity || top == kInfinity) return top;  // nothing to sum, or no finite sum
  const F32x16 shift = Splat(top);
  for (int32_t i = 0; i < count; i += 16) {
    const int32_t lanes = Least(16, count - i);
    const F32x16 v = lanes == 16
                         ? Load(logits + i)
                         : KeepLanes(LoadPartial(logits + i, lanes), LanesOf(0, lanes), -kInfinity);
    sum = Add(sum, Exp(Sub(v, shift)));
  }
  return top + LogOne(SumLanes(sum));
}

float Withhold(const float* logits, int64_t count, const uint32_t* words, float* out) {
  F32x16 most = Splat(-kInfinity);
  for (int64_t i = 0; i < count; i += 16) {
    const auto lanes = static_cast<int32_t>(Least<int64_t>(16, count - i));
    const F32x16 v = lanes == 16 ? Load(logits + i) : LoadPartial(logits + i, lanes);
    const uint32_t kept = words[i / 32] >> i % 32 & LanesOf(0, lanes);
    const F32x16 allowed = KeepLanes(v, kept, -kInfinity);
    StoreUpTo(out + i, lanes, allowed);
    most = Max(allowed, most);
  }
  return MaxLanes(most);
}

void WeighLogits(const float* logits, int64_t count, float best, float temperature, float* out) {
  const F32x16 top = Splat(best), divisor = Splat(temperature);
  for (int64_t i = 0; i < count; i += 16) {
    const int64_t lanes = Least<int64_t>(16, count - i);
    const F32x16 v = lanes == 16 ? Load(logits + i) : LoadPartial(logits + i, lanes);
    StoreUpTo(out + i, lanes, ExpOfMinus(Div(Sub(v, top), divisor)));
  }
}

}  // namespace
}  // namespace holdfast
