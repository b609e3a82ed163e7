// Inputs of the kernel tests: seeded numbers, random blocks with moderate scales, packed weights
// and quantised activations, and the paths that this machine can run.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/half.h"
#include "kernels/kernel_table.h"
#include "tests/parity/activations.h"

namespace holdfast {

inline constexpr TensorType kQuantizedTypes[] = {
    TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ5_0, TensorType::kQ5_1,
    TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K};

// The paths but scalar, which is what they are compared with.
inline std::vector<const KernelTable*> VectorPaths() {
  std::vector<const KernelTable*> paths;
  for (const Isa isa : kIsas) {
    if (isa != Isa::kScalar && IsaSupported(isa)) paths.push_back(&KernelsOf(isa));
  }
  return paths;
}

inline std::vector<const KernelTable*> AllPaths() {
  std::vector<const KernelTable*> paths = VectorPaths();
  paths.insert(paths.begin(), &KernelsOf(Isa::kScalar));
  return paths;
}

inline std::vector<float> RandomFloats(size_t count, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> out(count);
  for (float& x : out) x = normal(rng);
  return out;
}

// As activations are: some blocks of 32 are far larger than the others of their row.
inline std::vector<float> RandomActivations(size_t count, uint32_t seed) {
  std::vector<float> out = RandomFloats(count, seed);
  std::mt19937 rng(seed + 1);
  for (size_t block = 0; block < count / 32; ++block) {
    if (rng() % 6 != 0) continue;
    for (size_t i = 32 * block; i < 32 * block + 32; ++i) out[i] *= 9.0f;
  }
  return out;
}

// True if equal bit for bit; reports the first difference otherwise.
inline testing::AssertionResult SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << a.size() << " and " << b.size();
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0) {
      return testing::AssertionFailure() << "element " << i << ": " << a[i] << " and " << b[i];
    }
  }
  return testing::AssertionSuccess();
}

// 64-byte aligned.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t size, std::byte fill = {}) : size_(size) {
    data_.reset(new (std::align_val_t{64}) std::byte[size + 64]);
    std::memset(data_.get(), static_cast<int>(fill), size + 64);
  }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* p) const { operator delete[](p, std::align_val_t{64}); }
  };
  size_t size_;
  std::unique_ptr<std::byte[], Free> data_;
};

// ---- KV as it is stored -------------------------------------------------------------------------

inline const char* ElementName(KvElement element) {
  return element == KvElement::kF32 ? "f32" : element == KvElement::kF16 ? "f16" : "i8";
}

// One head's part of a block (kvstore/kv_layout.h, which a test of the engine compares with this).
inline size_t HeadBytes(KvElement element, int32_t head_dim) {
  const size_t numbers = size_t{2} * 16 * static_cast<size_t>(head_dim);
  if (element == KvElement::kI8) return numbers + 2 * 16 * sizeof(float);
  return numbers * (element == KvElement::kF32 ? 4 : 2);
}

// One token's K or V of a head, rounded to what a block of this element gives back.
inline void RoundAsStored(KvElement element, float* x, int32_t head_dim) {
  float most = 0.0f;
  for (int32_t d = 0; d < head_dim; ++d) most = std::max(most, std::abs(x[d]));
  for (int32_t d = 0; d < head_dim; ++d) {
    if (element == KvElement::kF16) x[d] = FloatOfHalf(HalfOfFloat(x[d]));
    if (element == KvElement::kI8 && most > 0.0f) {
      x[d] = std::nearbyint(x[d] * (127.0f / most)) * (most / 127.0f);
    }
  }
}

// n rows of random codes with f16 scales around 0.01.
inline std::vector<std::byte> RandomBlocks(TensorType type, int32_t n, int32_t k, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<std::byte> bytes(static_cast<size_t>(n) * RowBytes(type, k));
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng());
  const auto block_bytes = static_cast<size_t>(TraitsOf(type).block_bytes);
  const bool two_halves = type == TensorType::kQ4_1 || type == TensorType::kQ5_1 ||
                          type == TensorType::kQ4_K || type == TensorType::kQ5_K;
  std::normal_distribution<float> normal(0.0f, 0.01f);
  for (size_t at = 0; at < bytes.size(); at += block_bytes) {
    const size_t first = at + (type == TensorType::kQ6_K ? 208 : 0);
    for (size_t field = first; field <= first + (two_halves ? 2 : 0); field += 2) {
      const uint16_t half = HalfOfFloat(normal(rng));
      std::memcpy(bytes.data() + field, &half, sizeof half);
    }
  }
  return bytes;
}

inline AlignedBytes Pack(TensorType type, const std::vector<std::byte>& rows, int32_t n,
                         int32_t k) {
  AlignedBytes packed(PackedMatrixBytes(type, n, k), std::byte{0xee});
  PackRows(type, rows.data(), n, k, 0, n, packed.data());
  return packed;
}

}  // namespace holdfast
