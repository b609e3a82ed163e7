#include "kernels/peak_kernels.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>

namespace holdfast {
namespace {

class PeakKernelsTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!IsaSupported(GetParam())) GTEST_SKIP() << "this processor has no " << IsaName(GetParam());
    peaks_ = PeakKernelsOf(GetParam());
  }
  PeakKernels peaks_;
};

// A kernel that did less than it says would make the machine look faster than it is.
TEST_P(PeakKernelsTest, DoAsManyMultiplyAddsAsTheySay) {
  EXPECT_EQ(peaks_.isa, GetParam());
  EXPECT_NE(peaks_.f32.run, nullptr);
  EXPECT_NE(peaks_.int8.run, nullptr);
  for (const PeakKernel& kernel : {peaks_.f32, peaks_.bf16, peaks_.int8}) {
    if (kernel.run == nullptr) continue;
    SCOPED_TRACE(kernel.instruction);
    for (const int32_t rounds : {0, 1, 7, 1000}) {
      EXPECT_EQ(kernel.run(rounds), static_cast<double>(rounds * kernel.multiply_adds_per_round));
    }
  }
}

TEST_P(PeakKernelsTest, ReadEveryWordOnce) {
  std::mt19937_64 rng(7);
  alignas(64) static uint64_t words[3 * kReadBytes / sizeof(uint64_t)];
  uint64_t wanted = 0;
  for (uint64_t& word : words) wanted ^= word = rng();
  const auto* bytes = reinterpret_cast<const std::byte*>(words);
  EXPECT_EQ(peaks_.read(bytes, sizeof words), wanted);
  EXPECT_EQ(peaks_.read(bytes, 0), 0u);
}

INSTANTIATE_TEST_SUITE_P(Isas, PeakKernelsTest, testing::ValuesIn(kIsas), [](const auto& info) {
  std::string name = IsaName(info.param);
  std::erase(name, '-');
  return name;
});

}  // namespace
}  // namespace holdfast
