// The GPU's kernels beside their CPU twins, for each dtype, odd numbers of rows, and none.
//
// Both start from the stored numbers and sum in f32; the last rounding of the result may then
// differ by one step of the dtype, and sums in another order by some of f32.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/kernel_table.h"
#include "tests/gpu/gpu_memory.h"

namespace holdfast {
namespace {

constexpr GpuDtype kDtypes[] = {kGpuF32, kGpuF16, kGpuBf16};

std::vector<float> RandomNumbers(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(count);
  for (float& number : numbers) number = normal(rng);
  return numbers;
}

float StepOf(GpuDtype dtype) {  // of numbers in [1, 2)
  return dtype == kGpuF32 ? 0x1p-20f : dtype == kGpuF16 ? 0x1p-10f : 0x1p-7f;
}

void ExpectNear(const std::vector<float>& is, const std::vector<float>& wanted, GpuDtype dtype) {
  ASSERT_EQ(is.size(), wanted.size());
  for (size_t i = 0; i < is.size(); ++i) {
    ASSERT_NEAR(is[i], wanted[i], StepOf(dtype) * std::max(1.0f, std::fabs(wanted[i])))
        << "number " << i << " of dtype " << dtype;
  }
}

class GpuKernelsTest : public GpuTest {
 protected:
  const KernelTable& cpu_ = KernelsOf(Isa::kScalar);
};

TEST_F(GpuKernelsTest, NormsAsTheCpuDoes) {
  for (const GpuDtype dtype : kDtypes) {
    for (const int32_t rows : {0, 1, 3, 130}) {
      for (const int32_t hidden : {64, 576, 4104}) {
        const auto count = static_cast<size_t>(rows) * static_cast<size_t>(hidden);
        const auto x = Rounded(RandomNumbers(count, 1), dtype);
        const auto weight = Rounded(RandomNumbers(static_cast<size_t>(hidden), 2), dtype);
        std::vector<float> wanted(count);
        cpu_.rms_norm(x.data(), hidden, weight.data(), rows, hidden, 1e-5f, wanted.data(), hidden);
        void* out = Put(std::vector<float>(count + 1), dtype);
        const GpuRmsNorm call{.x = Put(x, dtype),
                              .residual = nullptr,
                              .weight = Put(weight, dtype),
                              .out = out,
                              .rows = rows,
                              .hidden = hidden,
                              .eps = 1e-5f,
                              .dtype = dtype};
        Must(gpu_->rms_norm(stream_, &call));
        ExpectNear(Get(out, count, dtype), wanted, dtype);
      }
    }
  }
}

TEST_F(GpuKernelsTest, ANormWithAResidualIsTheSumAndThenTheNorm) {
  constexpr int32_t kRows = 5, kHidden = 576;
  constexpr size_t kCount = size_t{kRows} * kHidden;
  for (const GpuDtype dtype : kDtypes) {
    const auto x = Rounded(RandomNumbers(kCount, 3), dtype);
    const auto before = Rounded(RandomNumbers(kCount, 4), dtype);
    const auto weight = Rounded(RandomNumbers(kHidden, 5), dtype);
    std::vector<float> sum = before, wanted(kCount);
    cpu_.add(x.data(), kCount, sum.data());
    sum = Rounded(sum, dtype);
    cpu_.rms_norm(sum.data(), kHidden, weight.data(), kRows, kHidden, 1e-6f, wanted.data(),
                  kHidden);
    void* residual = Put(before, dtype);
    void* out = Put(x, dtype);  // in place
    const GpuRmsNorm call{.x = out,
                          .residual = residual,
                          .weight = Put(weight, dtype),
                          .out = out,
                          .rows = kRows,
                          .hidden = kHidden,
                          .eps = 1e-6f,
                          .dtype = dtype};
    Must(gpu_->rms_norm(stream_, &call));
    EXPECT_EQ(Get(residual, kCount, dtype), sum);
    ExpectNear(Get(out, kCount, dtype), wanted, dtype);
  }
}

TEST_F(GpuKernelsTest, ARowsNormDoesNotDependOnTheOthers) {
  constexpr int32_t kHidden = 4096;
  const auto x = RandomNumbers(size_t{64} * kHidden, 6);
  const auto weight = RandomNumbers(kHidden, 7);
  const auto norm = [&](int32_t first, int32_t rows) {
    const size_t count = static_cast<size_t>(rows) * kHidden;
    const auto begin = x.begin() + int64_t{first} * kHidden;
    void* out = Put(std::vector<float>(count), kGpuBf16);
    const GpuRmsNorm call{
        .x = Put(std::vector<float>(begin, begin + static_cast<int64_t>(count)), kGpuBf16),
        .residual = nullptr,
        .weight = Put(weight, kGpuBf16),
        .out = out,
        .rows = rows,
        .hidden = kHidden,
        .eps = 1e-5f,
        .dtype = kGpuBf16};
    Must(gpu_->rms_norm(stream_, &call));
    return Bytes(out, count * 2);
  };
  const std::vector<uint8_t> all = norm(0, 64), one = norm(41, 1);
  EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + int64_t{41} * kHidden * 2));
}

TEST_F(GpuKernelsTest, EmbedsTokensAndGivesZerosForWhatIsNone) {
  constexpr int32_t kVocab = 50, kHidden = 72;
  const std::vector<int32_t> tokens = {0, 49, 7, 7, -1, 50};
  for (const GpuDtype dtype : kDtypes) {
    const auto table = Rounded(RandomNumbers(size_t{kVocab} * kHidden, 8), dtype);
    const size_t count = tokens.size() * kHidden;
    void* out = Put(std::vector<float>(count, 1.0f), dtype);
    const GpuEmbed call{.table = Put(table, dtype),
                        .tokens = PutAll(tokens),
                        .out = out,
                        .rows = static_cast<int32_t>(tokens.size()),
                        .hidden = kHidden,
                        .vocab = kVocab,
                        .dtype = dtype};
    Must(gpu_->embed(stream_, &call));
    std::vector<float> wanted;
    for (const int32_t token : tokens) {
      for (int32_t i = 0; i < kHidden; ++i) {
        const bool is_known = token >= 0 && token < kVocab;
        wanted.push_back(is_known ? table[static_cast<size_t>(token * kHidden + i)] : 0.0f);
      }
    }
    EXPECT_EQ(Get(out, count, dtype), wanted);
  }
}

TEST_F(GpuKernelsTest, GatesAsTheCpuDoes) {
  for (const GpuDtype dtype : kDtypes) {
    for (const int32_t size : {8, 1536, 14336}) {
      constexpr int32_t kRows = 3;
      const auto x =
          Rounded(RandomNumbers(size_t{2} * kRows * static_cast<size_t>(size), 9), dtype);
      std::vector<float> wanted(size_t{kRows} * static_cast<size_t>(size));
      for (int32_t row = 0; row < kRows; ++row) {
        const float* gate = x.data() + int64_t{2} * row * size;
        cpu_.swiglu(gate, gate + size, size, wanted.data() + int64_t{row} * size);
      }
      void* out = Put(std::vector<float>(wanted.size()), dtype);
      const GpuSwiglu call{
          .x = Put(x, dtype), .out = out, .rows = kRows, .size = size, .dtype = dtype};
      Must(gpu_->swiglu(stream_, &call));
      ExpectNear(Get(out, wanted.size(), dtype), wanted, dtype);
    }
  }
}

struct RopeCase {
  int32_t head_dim, rope_dim;
  RopePairing pairing;
};

// Cosine and sine of each position and pair.
std::vector<float> CosSin(int32_t positions, int32_t rope_dim) {
  std::vector<float> table;
  for (int32_t position = 0; position < positions; ++position) {
    for (int32_t pair = 0; pair < rope_dim / 2; ++pair) {
      const float angle =
          static_cast<float>(position) *
          std::pow(10000.0f, -2.0f * static_cast<float>(pair) / static_cast<float>(rope_dim));
      table.push_back(std::cos(angle));
      table.push_back(std::sin(angle));
    }
  }
  return table;
}

TEST_F(GpuKernelsTest, RotatesAsTheCpuDoesAndPutsEachTokenInItsPlace) {
  constexpr int32_t kHeads = 3, kKvHeads = 2, kBlocks = 4;
  const std::vector<int32_t> positions = {0, 15, 16, 40, 9};
  const std::vector<int64_t> slots = {0, 15, 16, 63, -1};  // block borders; the last writes nothing
  const auto rows = static_cast<int32_t>(positions.size());
  for (const RopeCase& shape :
       {RopeCase{64, 64, RopePairing::kHalves}, RopeCase{64, 64, RopePairing::kInterleaved},
        RopeCase{80, 40, RopePairing::kHalves}}) {
    for (const GpuDtype dtype : kDtypes) {
      const int32_t dim = shape.head_dim;
      const int32_t row_size = (kHeads + 2 * kKvHeads) * dim;
      const int32_t head_part = 2 * 16 * dim;
      const int32_t block_size = kKvHeads * head_part + 8;  // of two layers' parts, say
      const auto qkv = Rounded(
          RandomNumbers(static_cast<size_t>(rows) * static_cast<size_t>(row_size), 10), dtype);
      const std::vector<float> cos_sin = CosSin(64, shape.rope_dim);
      std::vector<float> wanted = qkv;
      std::vector<float> kv(static_cast<size_t>(kBlocks) * static_cast<size_t>(block_size), 0.5f);
      std::vector<float> wanted_kv = kv;
      for (int32_t row = 0; row < rows; ++row) {
        float* heads = wanted.data() + int64_t{row} * row_size;
        const float* angles =
            cos_sin.data() + int64_t{positions[static_cast<size_t>(row)]} * shape.rope_dim;
        cpu_.rope(heads, kHeads, dim, shape.rope_dim, shape.pairing, angles);
        std::vector<float> key(heads + kHeads * dim, heads + (kHeads + kKvHeads) * dim);
        cpu_.rope(key.data(), kKvHeads, dim, shape.rope_dim, shape.pairing, angles);
        const int64_t slot = slots[static_cast<size_t>(row)];
        if (slot < 0) continue;
        for (int32_t head = 0; head < kKvHeads; ++head) {
          float* part = wanted_kv.data() + slot / 16 * block_size + int64_t{head} * head_part;
          std::copy_n(key.data() + int64_t{head} * dim, dim, part + slot % 16 * dim);
          std::copy_n(heads + int64_t{kHeads + kKvHeads + head} * dim, dim,
                      part + (16 + slot % 16) * dim);
        }
      }
      void* on_device = Put(qkv, dtype);
      void* kv_on_device = Put(kv, dtype);
      const GpuRopeWriteKv call{
          .qkv = on_device,
          .cos_sin = PutAll(cos_sin),
          .positions = PutAll(positions),
          .slots = PutAll(slots),
          .kv = kv_on_device,
          .block_bytes = static_cast<int64_t>(static_cast<size_t>(block_size) * NumberBytes(dtype)),
          .rows = rows,
          .num_heads = kHeads,
          .num_kv_heads = kKvHeads,
          .head_dim = dim,
          .rope_dim = shape.rope_dim,
          .halves = shape.pairing == RopePairing::kHalves ? 1 : 0,
          .dtype = dtype};
      Must(gpu_->rope_write_kv(stream_, &call));
      ExpectNear(Get(on_device, qkv.size(), dtype), wanted, dtype);
      ExpectNear(Get(kv_on_device, kv.size(), dtype), wanted_kv, dtype);
    }
  }
}

TEST_F(GpuKernelsTest, ShapesThatNoKernelTakesAreRefusedAndHarmNothing) {
  void* memory = Put(std::vector<float>(64), kGpuF32);
  const GpuSwiglu call{.x = memory, .out = memory, .rows = 1, .size = 3, .dtype = kGpuF32};
  EXPECT_EQ(gpu_->swiglu(stream_, &call), kGpuInvalid);
  EXPECT_STRNE(gpu_->error_text(), "");
  Must(gpu_->wait(stream_));
}

TEST_F(GpuKernelsTest, MemoryThatIsNotThereIsRefusedAndHarmsNothing) {
  GpuInfo info{};
  Must(gpu_->info(device_, &info));
  EXPECT_GT(info.total_bytes, 0);
  void* memory = nullptr;
  EXPECT_EQ(gpu_->allocate(device_, static_cast<size_t>(info.total_bytes) * 2, &memory),
            kGpuOutOfMemory);
  EXPECT_EQ(memory, nullptr);
  EXPECT_NE(Put(std::vector<float>(16), kGpuF32), nullptr);
}

}  // namespace
}  // namespace holdfast
