#include "server/heap_trim.h"

#include <cstdint>
#include <optional>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr int64_t kMiB = 1 << 20;

// A process with `used` bytes that stay and `garbage` that a trim gives back.
struct Process {
  int64_t used = 100 * kMiB, garbage = 0;
  bool is_known = true;
  int trims = 0;

  HeapTrim::Heap Heap() {
    return {.resident_bytes = [this]() -> std::optional<int64_t> {
              if (!is_known) return std::nullopt;
              return used + garbage;
            },
            .trim =
                [this] {
                  garbage = 0;
                  ++trims;
                }};
  }
};

TEST(HeapTrimTest, GrowthIsTrimmedAndRestIsNot) {
  Process process{.garbage = 10 * kMiB};
  HeapTrim heap(process.Heap());
  ASSERT_TRUE(heap.Look().has_value());  // what loading left
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(heap.Look().has_value());
  process.garbage = kHeapTrimGrowthBytes;
  const auto sizes = heap.Look();
  ASSERT_TRUE(sizes.has_value());
  EXPECT_EQ(sizes->before_bytes, 100 * kMiB + kHeapTrimGrowthBytes);
  EXPECT_EQ(sizes->after_bytes, 100 * kMiB);
  EXPECT_EQ(process.trims, 2);
}

TEST(HeapTrimTest, WhatGrowsForGoodIsTrimmedOnceAStep) {
  Process process;
  HeapTrim heap(process.Heap());
  heap.Look();
  process.used += 10 * kHeapTrimGrowthBytes;
  EXPECT_TRUE(heap.Look().has_value());
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(heap.Look().has_value());
  EXPECT_EQ(process.trims, 2);
}

TEST(HeapTrimTest, GrowthCountsFromTheLeastThatWasSeen) {
  Process process;
  HeapTrim heap(process.Heap());
  heap.Look();
  process.used -= 50 * kMiB;
  EXPECT_FALSE(heap.Look().has_value());
  process.garbage = kHeapTrimGrowthBytes;
  EXPECT_TRUE(heap.Look().has_value());
}

TEST(HeapTrimTest, AnUnknownSizeIsLeftAlone) {
  Process process{.is_known = false};
  HeapTrim heap(process.Heap());
  EXPECT_FALSE(heap.Look().has_value());
  EXPECT_EQ(process.trims, 0);
}

TEST(HeapTrimTest, ThisProcessHasASizeAndCanBeTrimmed) {
  HeapTrim heap(HeapTrim::OfThisProcess());
  const auto sizes = heap.Look();
  ASSERT_TRUE(sizes.has_value());
  EXPECT_GT(sizes->before_bytes, kMiB);
  EXPECT_GT(sizes->after_bytes, 0);
}

}  // namespace
}  // namespace holdfast
