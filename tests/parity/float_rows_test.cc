// The f32 kernels of a row: every path gives the scalar path's bits on odd lengths and at any
// address, and the scalar path agrees with double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "tests/parity/kernel_inputs.h"

namespace holdfast {
namespace {

constexpr int32_t kLengths[] = {1, 15, 16, 17, 31, 32, 33, 100, 576};

// `values` moved to an address that is no multiple of 16 floats.
struct Shifted {
  explicit Shifted(const std::vector<float>& values) : storage(values.size() + 3) {
    std::copy(values.begin(), values.end(), storage.begin() + 3);
  }
  float* data() { return storage.data() + 3; }
  std::vector<float> values() const { return {storage.begin() + 3, storage.end()}; }
  std::vector<float> storage;
};

TEST(RmsNormTest, PathsAgreeAreNearDoubleAndWorkInPlace) {
  constexpr int32_t kRows = 3;
  for (const int32_t hidden : kLengths) {
    Shifted x(RandomFloats(static_cast<size_t>(kRows) * hidden, 5));
    Shifted weight(RandomFloats(static_cast<size_t>(hidden), 6));
    const auto norm = [&](const KernelTable& kernels) {
      std::vector<float> out(static_cast<size_t>(kRows) * hidden);
      kernels.rms_norm(x.data(), hidden, weight.data(), kRows, hidden, 1e-5f, out.data(), hidden);
      return out;
    };
    const auto wanted = norm(KernelsOf(Isa::kScalar));
    for (int32_t r = 0; r < kRows; ++r) {
      double squares = 0;
      for (int32_t h = 0; h < hidden; ++h) squares += std::pow(double{x.data()[r * hidden + h]}, 2);
      const double inverse = 1.0 / std::sqrt(squares / hidden + 1e-5);
      for (int32_t h = 0; h < hidden; ++h) {
        const double y = x.data()[r * hidden + h] * inverse * weight.data()[h];
        ASSERT_NEAR(wanted[static_cast<size_t>(r) * hidden + h], y, 1e-6 * std::abs(y) + 1e-12);
      }
    }
    for (const KernelTable* path : AllPaths()) {
      EXPECT_TRUE(SameBits(norm(*path), wanted)) << path->name << " " << hidden;
      Shifted inout(x.values());
      path->rms_norm(inout.data(), hidden, weight.data(), kRows, hidden, 1e-5f, inout.data(),
                     hidden);
      EXPECT_TRUE(SameBits(inout.values(), wanted)) << path->name << " in place";
    }
  }
}

TEST(RopeTest, PathsAgreeRotateTheRightPairsAndLeaveTheRest) {
  struct Shape {
    int32_t head_dim, rope_dim;
  };
  for (const Shape shape :
       {Shape{2, 2}, Shape{16, 16}, Shape{64, 64}, Shape{80, 32}, Shape{96, 72}, Shape{128, 128}}) {
    for (const RopePairing pairing : {RopePairing::kInterleaved, RopePairing::kHalves}) {
      const int32_t half = shape.rope_dim / 2;
      std::vector<float> cos_sin;
      for (int32_t i = 0; i < half; ++i) {
        cos_sin.push_back(std::cos(0.37f * static_cast<float>(i + 1)));
        cos_sin.push_back(std::sin(0.37f * static_cast<float>(i + 1)));
      }
      const auto heads = RandomFloats(static_cast<size_t>(3 * shape.head_dim), 7);
      const auto rotate = [&](const KernelTable& kernels) {
        Shifted inout(heads);
        kernels.rope(inout.data(), 3, shape.head_dim, shape.rope_dim, pairing, cos_sin.data());
        return inout.values();
      };
      const auto wanted = rotate(KernelsOf(Isa::kScalar));
      for (int32_t head = 0; head < 3; ++head) {
        const size_t base = static_cast<size_t>(head * shape.head_dim);
        for (int32_t i = 0; i < half; ++i) {
          const bool interleaved = pairing == RopePairing::kInterleaved;
          const size_t first = base + static_cast<size_t>(interleaved ? 2 * i : i);
          const size_t second = base + static_cast<size_t>(interleaved ? 2 * i + 1 : i + half);
          const double a = heads[first], b = heads[second];
          const double c = cos_sin[static_cast<size_t>(2 * i)];
          const double s = cos_sin[static_cast<size_t>(2 * i + 1)];
          EXPECT_NEAR(wanted[first], a * c - b * s, 1e-6);
          EXPECT_NEAR(wanted[second], a * s + b * c, 1e-6);
        }
        for (int32_t d = shape.rope_dim; d < shape.head_dim; ++d) {
          EXPECT_EQ(wanted[base + static_cast<size_t>(d)], heads[base + static_cast<size_t>(d)]);
        }
      }
      for (const KernelTable* path : VectorPaths()) {
        EXPECT_TRUE(SameBits(rotate(*path), wanted)) << path->name << " " << shape.rope_dim;
      }
    }
  }
}

TEST(SwigluTest, PathsAgreeAndAreNearDoubleAlsoFarOut) {
  for (const int32_t count : kLengths) {
    Shifted gate(RandomFloats(static_cast<size_t>(count), 8, 3.0f));
    Shifted up(RandomFloats(static_cast<size_t>(count), 9));
    gate.data()[0] = -100.0f;
    if (count > 2) gate.data()[1] = 100.0f;
    if (count > 2) gate.data()[2] = -85.0f;
    const auto apply = [&](const KernelTable& kernels) {
      std::vector<float> out(static_cast<size_t>(count));
      kernels.swiglu(gate.data(), up.data(), count, out.data());
      return out;
    };
    const auto wanted = apply(KernelsOf(Isa::kScalar));
    for (int32_t i = 0; i < count; ++i) {
      const double g = gate.data()[i];
      const double y = g / (1 + std::exp(-g)) * up.data()[i];
      ASSERT_NEAR(wanted[static_cast<size_t>(i)], y, 1e-6 * std::abs(y) + 1e-35) << g;
    }
    for (const KernelTable* path : AllPaths()) {
      EXPECT_TRUE(SameBits(apply(*path), wanted)) << path->name;
      Shifted inout(gate.values());
      path->swiglu(inout.data(), up.data(), count, inout.data());
      EXPECT_TRUE(SameBits(inout.values(), wanted)) << path->name << " in place";
    }
  }
}

// swiglu with up = 1 is g times the logistic function: through it, e^x over its whole range.
TEST(SwigluTest, PathsAgreeOnEveryMagnitude) {
  std::vector<float> gate;
  for (float x = -130.0f; x < 130.0f; x += 0.0137f) gate.push_back(x);
  for (uint32_t bits = 0; bits < 0xff800000u - 0x10000u; bits += 0x12345u) {
    gate.push_back(FloatOfBits(bits));
  }
  gate.insert(gate.end(), {0.0f, -0.0f, INFINITY, 1e-45f});
  const std::vector<float> up(gate.size(), 1.0f);
  std::vector<float> wanted(gate.size()), got(gate.size());
  const auto count = static_cast<int64_t>(gate.size());
  KernelsOf(Isa::kScalar).swiglu(gate.data(), up.data(), count, wanted.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    if (std::isnan(gate[i])) {
      EXPECT_TRUE(std::isnan(wanted[i])) << "NaN is not hidden";
      wanted[i] = 0;
    }
  }
  for (const KernelTable* path : VectorPaths()) {
    path->swiglu(gate.data(), up.data(), count, got.data());
    for (size_t i = 0; i < gate.size(); ++i) {
      if (std::isnan(gate[i]) && std::isnan(got[i])) got[i] = 0;  // payloads are nobody's promise
    }
    EXPECT_TRUE(SameBits(got, wanted)) << path->name;
  }
}

TEST(AddTest, PathsAgree) {
  for (const int32_t count : kLengths) {
    Shifted x(RandomFloats(static_cast<size_t>(count), 10));
    const auto base = RandomFloats(static_cast<size_t>(count), 11);
    for (const KernelTable* path : AllPaths()) {
      Shifted inout(base);
      path->add(x.data(), count, inout.data());
      for (int32_t i = 0; i < count; ++i) {
        ASSERT_EQ(inout.data()[i], base[static_cast<size_t>(i)] + x.data()[i]) << path->name;
      }
    }
  }
}

TEST(LogSumExpTest, PathsAgreeAndAreNearDouble) {
  for (const int32_t count : {1, 15, 16, 17, 1000, 49152}) {
    Shifted logits(RandomFloats(static_cast<size_t>(count), 12, 4.0f));
    double sum = 0;
    for (int32_t i = 0; i < count; ++i) sum += std::exp(double{logits.data()[i]});
    const float wanted = KernelsOf(Isa::kScalar).log_sum_exp(logits.data(), count);
    EXPECT_NEAR(wanted, std::log(sum), 2e-6 * std::max(1.0, std::abs(std::log(sum))));
    for (const KernelTable* path : VectorPaths()) {
      EXPECT_TRUE(SameBits({path->log_sum_exp(logits.data(), count)}, {wanted})) << path->name;
    }
  }
}

TEST(WithholdTest, PathsKeepWhatTheMaskAllowsAndNothingElse) {
  for (const int64_t count : {1, 15, 16, 31, 32, 33, 1000}) {
    const std::vector<float> logits = RandomFloats(static_cast<size_t>(count), 27, 8.0f);
    std::mt19937 random(28);
    std::vector<uint32_t> words(static_cast<size_t>(count + 31) / 32);
    for (uint32_t& word : words) word = random();  // of the last also bits behind the logits
    for (const KernelTable* path : AllPaths()) {
      Shifted kept(logits);
      const float best = path->withhold(kept.data(), count, words.data(), kept.data());
      float wanted_best = -INFINITY;
      for (int64_t i = 0; i < count; ++i) {
        const bool allowed = (words[static_cast<size_t>(i / 32)] >> i % 32 & 1) != 0;
        const float wanted = allowed ? logits[static_cast<size_t>(i)] : -INFINITY;
        ASSERT_EQ(kept.data()[i], wanted) << path->name << " of " << count << ", " << i;
        wanted_best = std::max(wanted_best, wanted);
      }
      EXPECT_EQ(best, wanted_best) << path->name << " of " << count;
    }
  }
}

TEST(WeighLogitsTest, PathsAgreeAndAreNearDouble) {
  for (const int64_t count : {1, 15, 16, 33, 1000}) {
    std::vector<float> logits = RandomFloats(static_cast<size_t>(count), 26, 8.0f);
    if (count > 20) logits[17] = -INFINITY;
    const float best = *std::max_element(logits.begin(), logits.end());
    for (const float temperature : {0.01f, 0.7f, 1.0f, 2.0f}) {
      std::vector<float> wanted(logits.size());
      KernelsOf(Isa::kScalar).weigh_logits(logits.data(), count, best, temperature, wanted.data());
      for (size_t i = 0; i < logits.size(); ++i) {
        const double depth = (double{best} - logits[i]) / temperature, exact = std::exp(-depth);
        // The depth is rounded to f32 before.
        const double error = (1e-6 + 2e-7 * depth) * exact + 1e-37;
        EXPECT_NEAR(wanted[i], exact, exact > 0.0 ? error : 0.0) << logits[i];
      }
      for (const KernelTable* path : AllPaths()) {
        std::vector<float> weights = logits;
        path->weigh_logits(weights.data(), count, best, temperature, weights.data());
        EXPECT_TRUE(SameBits(weights, wanted)) << path->name << " of " << count;
      }
    }
  }
}

TEST(LogSumExpTest, KnowsMaskedInfiniteAndEmptyLogits) {
  for (const KernelTable* path : AllPaths()) {
    std::vector<float> logits(40, -INFINITY);
    EXPECT_EQ(path->log_sum_exp(logits.data(), 40), -INFINITY) << path->name;
    EXPECT_EQ(path->log_sum_exp(logits.data(), 0), -INFINITY);
    logits[39] = 2.5f;
    EXPECT_EQ(path->log_sum_exp(logits.data(), 40), 2.5f);
    logits[3] = INFINITY;
    EXPECT_EQ(path->log_sum_exp(logits.data(), 40), INFINITY);
    logits[3] = std::nanf("");
    EXPECT_TRUE(std::isnan(path->log_sum_exp(logits.data(), 40)));
  }
}

TEST(WriteKvTest, PathsAgreeWithTheDefinitionForEveryKindOfFloat) {
  std::vector<float> values;  // a sweep over all exponents, both signs, ties and not
  for (uint64_t bits = 0; bits < 0x100000000u; bits += 0xffdu * 131u) {
    const float x = FloatOfBits(static_cast<uint32_t>(bits));
    values.push_back(x);
    values.push_back(FloatOfBits(static_cast<uint32_t>(bits) & 0xfffff000u));
  }
  constexpr int32_t kDims[] = {8, 16, 40, 64, 128};
  for (const int32_t dim : kDims) {
    const size_t block_halves = size_t{2} * 16 * static_cast<size_t>(dim);
    for (size_t begin = 0; begin + 2 * static_cast<size_t>(dim) <= values.size();
         begin += 2 * static_cast<size_t>(dim)) {
      const float* key = values.data() + begin;
      const float* value = key + dim;
      const int32_t slot = static_cast<int32_t>(begin / static_cast<size_t>(dim) / 2 % 16);
      for (const KernelTable* path : AllPaths()) {
        std::vector<uint16_t> block(block_halves, 0xabcd);
        path->write_kv(key, value, dim, KvElement::kF16, slot,
                       reinterpret_cast<std::byte*>(block.data()));
        for (int32_t i = 0; i < dim; ++i) {
          const size_t at_key = static_cast<size_t>(i * 16 + slot);
          const size_t at_value = static_cast<size_t>((16 + slot) * dim + i);
          ASSERT_EQ(block[at_key], HalfOfFloat(key[i])) << path->name << " " << key[i];
          ASSERT_EQ(block[at_value], HalfOfFloat(value[i])) << path->name;
          block[at_key] = block[at_value] = 0xabcd;
        }
        ASSERT_EQ(block, std::vector<uint16_t>(block_halves, 0xabcd)) << "wrote elsewhere";
      }
    }
  }
}

TEST(WriteKvTest, KeepsF32AsItIs) {
  constexpr int32_t kDim = 40, kSlot = 5;
  const auto key = RandomFloats(kDim, 13), value = RandomFloats(kDim, 14);
  for (const KernelTable* path : AllPaths()) {
    std::vector<float> block(2 * 16 * kDim, 7.0f);
    path->write_kv(key.data(), value.data(), kDim, KvElement::kF32, kSlot,
                   reinterpret_cast<std::byte*>(block.data()));
    size_t touched = 0;
    for (size_t i = 0; i < kDim; ++i) {
      EXPECT_EQ(block[i * 16 + kSlot], key[i]);
      EXPECT_EQ(block[(16 + kSlot) * kDim + i], value[i]);
    }
    for (const float x : block) touched += x != 7.0f;
    EXPECT_EQ(touched, size_t{2} * kDim) << path->name;
  }
}

// One token into an int8 block whose other bytes must stay; the codes and scale of K or V back.
struct CodedToken {
  CodedToken(const KernelTable& path, const std::vector<float>& key,
             const std::vector<float>& value, int32_t slot)
      : dim(key.size()), block(HeadBytes(KvElement::kI8, static_cast<int32_t>(dim)), kUntouched) {
    path.write_kv(key.data(), value.data(), static_cast<int32_t>(dim), KvElement::kI8, slot,
                  reinterpret_cast<std::byte*>(block.data()));
    const auto place = static_cast<size_t>(slot);
    for (size_t i = 0; i < dim; ++i) {
      key_codes.push_back(Take(i * 16 + place));
      value_codes.push_back(Take((16 + place) * dim + i));
    }
    std::memcpy(&key_scale, block.data() + 32 * dim + 4 * place, sizeof(float));
    std::memcpy(&value_scale, block.data() + 32 * dim + 64 + 4 * place, sizeof(float));
    std::memset(block.data() + 32 * dim + 4 * place, kUntouched, sizeof(float));
    std::memset(block.data() + 32 * dim + 64 + 4 * place, kUntouched, sizeof(float));
    for (const int8_t byte : block) wrote_elsewhere |= byte != kUntouched;
  }
  int8_t Take(size_t at) { return std::exchange(block[at], kUntouched); }

  static constexpr int8_t kUntouched = -128;  // no code
  size_t dim;
  std::vector<int8_t> block, key_codes, value_codes;
  float key_scale = 0, value_scale = 0;
  bool wrote_elsewhere = false;
};

TEST(WriteKvTest, CodesOfInt8AreNearestAndEachTokenHasItsOwnScales) {
  for (const int32_t dim : {8, 16, 40, 64, 128}) {
    for (uint32_t seed = 0; seed < 64; ++seed) {
      // Magnitudes from far below to far above those of models.
      const float deviation = std::ldexp(1.0f, static_cast<int>(seed) * 3 - 95);
      const auto key = RandomFloats(static_cast<size_t>(dim), seed, deviation);
      const auto value = RandomFloats(static_cast<size_t>(dim), seed + 100, 3.0f);
      for (const KernelTable* path : AllPaths()) {
        SCOPED_TRACE(testing::Message() << path->name << " dim " << dim << " seed " << seed);
        const CodedToken token(*path, key, value, static_cast<int32_t>(seed % 16));
        ASSERT_FALSE(token.wrote_elsewhere);
        const auto check = [&](const std::vector<float>& x, const std::vector<int8_t>& codes,
                               float scale) {
          float most = 0.0f;
          for (const float v : x) most = std::max(most, std::abs(v));
          ASSERT_EQ(scale, most / 127.0f);
          for (size_t i = 0; i < x.size(); ++i) {
            ASSERT_EQ(codes[i], std::nearbyint(x[i] * (127.0f / most)));
            ASSERT_LE(std::abs(double{x[i]} - double{scale} * codes[i]), 0.501 * scale);
          }
        };
        check(key, token.key_codes, token.key_scale);
        check(value, token.value_codes, token.value_scale);
      }
    }
  }
}

TEST(WriteKvTest, AnInt8TokenOfNothingIsZeroAndOneThatIsNotFiniteCannotLookFinite) {
  const std::vector<float> nothing(24, 0x1p-101f), good = RandomFloats(24, 7);
  for (const float bad : {INFINITY, -INFINITY, std::nanf("")}) {
    std::vector<float> broken = good;
    broken[17] = bad;
    for (const KernelTable* path : AllPaths()) {
      const CodedToken token(*path, nothing, broken, 3);
      EXPECT_FALSE(token.wrote_elsewhere) << path->name;
      EXPECT_EQ(token.key_scale, 0.0f) << path->name;
      EXPECT_TRUE(std::isnan(token.value_scale)) << path->name;
      EXPECT_EQ(token.key_codes, std::vector<int8_t>(24, 0)) << path->name;
      EXPECT_EQ(token.value_codes, std::vector<int8_t>(24, 0)) << path->name;
    }
  }
}

}  // namespace
}  // namespace holdfast
