#include "scheduler/sequence_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace holdfast {
namespace {

struct Piece {
  std::byte* memory = nullptr;
  size_t bytes = 0;
  std::byte mark{};
};

bool IsMarked(const Piece& piece) {
  return std::all_of(piece.memory, piece.memory + piece.bytes,
                     [&](std::byte byte) { return byte == piece.mark; });
}

TEST(SequenceMemoryTest, PiecesOfASizeLieAnOddNumberOfLinesApart) {
  if (!SequenceMemory::kPools) GTEST_SKIP() << "all of it is of the heap here";
  for (const size_t bytes :
       {size_t{1}, size_t{576}, size_t{4096}, SequenceMemory::kPooledBytesMax}) {
    SequenceMemory memory;
    const auto first = reinterpret_cast<uintptr_t>(memory.allocate(bytes, 64));
    const auto second = reinterpret_cast<uintptr_t>(memory.allocate(bytes, 64));
    EXPECT_EQ(first % SequenceMemory::kLineBytes, 0u);
    EXPECT_GE(second - first, bytes);
    EXPECT_EQ((second - first) % (2 * SequenceMemory::kLineBytes), SequenceMemory::kLineBytes);
  }
}

TEST(SequenceMemoryTest, WhatWasGivenBackGoesToTheNextOfAboutItsSize) {
  if (!SequenceMemory::kPools) GTEST_SKIP() << "all of it is of the heap here";
  SequenceMemory memory;
  void* const first = memory.allocate(4000, 4);
  void* const second = memory.allocate(4000, 4);
  memory.deallocate(first, 4000, 4);
  EXPECT_NE(second, first);
  EXPECT_NE(memory.allocate(8000, 4), first);
  EXPECT_EQ(memory.allocate(4096, 4), first);
}

TEST(SequenceMemoryTest, EveryPieceKeepsWhatIsWrittenToItOnARandomWalk) {
  SequenceMemory memory;
  std::mt19937 random(1);
  std::vector<Piece> pieces;
  for (int step = 0; step < 5000; ++step) {
    if (pieces.empty() || random() % 5 > 1) {
      const size_t bytes =
          1 + random() % (SequenceMemory::kPooledBytesMax * (random() % 8 == 0 ? 2 : 1));
      Piece piece{.memory = static_cast<std::byte*>(memory.allocate(bytes, 64)),
                  .bytes = bytes,
                  .mark = static_cast<std::byte>(step)};
      ASSERT_EQ(reinterpret_cast<uintptr_t>(piece.memory) % 64, 0u);
      std::memset(piece.memory, static_cast<int>(piece.mark), bytes);
      pieces.push_back(piece);
    } else {
      std::swap(pieces[random() % pieces.size()], pieces.back());
      ASSERT_TRUE(IsMarked(pieces.back()));
      memory.deallocate(pieces.back().memory, pieces.back().bytes, 64);
      pieces.pop_back();
    }
  }
  for (const Piece& piece : pieces) {
    EXPECT_TRUE(IsMarked(piece));
    memory.deallocate(piece.memory, piece.bytes, 64);
  }
}

}  // namespace
}  // namespace holdfast
