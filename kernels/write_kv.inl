// K and V of one token into their place of one head's part of a block (kv_layout.h). Written once
// over the lanes of the including path; after attention.inl, which reads what is written here.

namespace holdfast {
namespace {

inline int32_t ElementBytes(KvElement element) {
  return element == KvElement::kF32 ? 4 : element == KvElement::kF16 ? 2 : 1;
}

// K lies [head_dim][16]: number d of the token at place `slot` is kPlaces elements after d - 1's.
inline void ScatterKeys(const std::byte* keys, int32_t count, size_t element, std::byte* key_at) {
  for (int32_t i = 0; i < count; ++i) {
    __builtin_memcpy(key_at, keys + element * Size(i), element);
    key_at += element * kPlaces;
  }
}

// Codes of one token's K or V: x ~ scale * code, as paged_attention.h has it.
struct CodeScale {
  float scale, inverse;
};

inline CodeScale CodeScaleOf(const float* x, int32_t head_dim) {
  constexpr float kMostCode = 127.0f;
  // Below this the reciprocal of the scale leaves the range of f32: taken for zero.
  constexpr uint32_t kLeastMagnitudeBits = (127u - 100u) << 23;  // 2^-100
  uint32_t bits = 0;
  for (int32_t d = 0; d < head_dim; d += 16) {
    bits = Most(bits, MaxMagnitudeBits(LoadPartial(x + d, Least(16, head_dim - d)), Zero()));
  }
  if (bits < kLeastMagnitudeBits) return {0.0f, 0.0f};
  if (bits >= 0x7f800000u) return {FloatOfBits(0x7fc00000u), 0.0f};  // NaN: must not look finite
  const float most = FloatOfBits(bits);
  return {most / kMostCode, kMostCode / most};
}

inline void StoreCodes(std::byte* out, F32x16 x, const CodeScale& scale) {
  StoreRoundedI8(reinterpret_cast<int8_t*>(out),
                 scale.inverse == 0.0f ? Zero() : Mul(x, Splat(scale.inverse)));
}

void WriteKv(const float* key, const float* value, int32_t head_dim, KvElement kind, int32_t slot,
             std::byte* head_block) {
  const size_t element = Size(ElementBytes(kind));
  CodeScale key_scale{}, value_scale{};
  if (kind == KvElement::kI8) {
    key_scale = CodeScaleOf(key, head_dim);
    value_scale = CodeScaleOf(value, head_dim);
    std::byte* scales = head_block + size_t{2} * kPlaces * Size(head_dim);
    const size_t at = Size(slot) * sizeof(float);
    __builtin_memcpy(scales + at, &key_scale.scale, sizeof(float));
    __builtin_memcpy(scales + kPlaces * sizeof(float) + at, &value_scale.scale, sizeof(float));
  }
  std::byte* key_at = head_block + element * Size(slot);
  std::byte* value_at = head_block + element * Size(head_dim) * (kPlaces + Size(slot));
  for (int32_t d = 0; d < head_dim; d += 16) {
    const int32_t lanes = Least(16, head_dim - d);
    const F32x16 k = LoadPartial(key + d, lanes), v = LoadPartial(value + d, lanes);
    std::byte keys[64], values[64];
    switch (kind) {
      case KvElement::kF32:
        Store(reinterpret_cast<float*>(keys), k);
        Store(reinterpret_cast<float*>(values), v);
        break;
      case KvElement::kF16:
        StoreHalf(keys, k);
        StoreHalf(values, v);
        break;
      case KvElement::kI8:
        StoreCodes(keys, k, key_scale);
        StoreCodes(values, v, value_scale);
        break;
    }
    ScatterKeys(keys, lanes, element, key_at + element * kPlaces * Size(d));
    __builtin_memcpy(value_at + element * Size(d), values, element * Size(lanes));
  }
}

}  // namespace
}  // namespace holdfast
