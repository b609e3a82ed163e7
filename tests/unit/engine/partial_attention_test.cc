// Blocks attended where they lie: AttendParts over several arenas, and the engine over sequences
// whose first blocks lie in host memory, beside everything in one arena.
#include "engine/partial_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "tests/parity/attention_sequence.h"
#include "tests/unit/engine/engine_driver.h"
#include "tests/unit/engine/random_model.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

constexpr int32_t kSplitBlocks = kAttentionSplitTokens / kBlockTokens;
constexpr KvDtype kDtypes[] = {KvDtype::kF16, KvDtype::kF32, KvDtype::kI8};

TEST(KvLayoutTest, IsWhatTheKernelsWriteAndReadAndAMultipleOfCacheLines) {
  for (const int32_t head_dim : {2, 16, 24, 64, 80, 128, 256}) {
    for (const KvElement element : kElements) {
      const KvLayout layout{.num_layers = 3,
                            .num_kv_heads = 5,
                            .head_dim = head_dim,
                            .dtype = *KvDtypeOfName(ElementName(element))};
      EXPECT_EQ(layout.head_bytes(), HeadBytes(element, head_dim));
      EXPECT_EQ(layout.head_bytes() % 64, 0u);
      EXPECT_EQ(layout.block_bytes(), 15 * layout.head_bytes());
    }
  }
  EXPECT_EQ(KvDtypeOfName("f8"), std::nullopt);
}

// ---- AttendParts --------------------------------------------------------------------------------

Sequence::Result AttendRuns(Sequence& sequence, const KernelTable& kernels, int32_t tile_rows,
                            int32_t tile_heads) {
  std::vector<KvArena> arenas;
  for (int32_t a = 0; a < 3; ++a) {
    arenas.push_back({.data = sequence.ArenaData(a),
                      .block_stride = sequence.block_stride(),
                      .num_blocks = 2 * sequence.num_blocks() + 3});
  }
  std::vector<KvPart> parts;
  for (const BlockRun& run : sequence.runs()) {
    parts.push_back({.arena = run.arena,
                     .first_block = run.first_block,
                     .num_blocks = run.num_blocks,
                     .blocks = sequence.table().data() + run.first_block});
  }
  return sequence.RunWith(tile_rows, tile_heads, PartialAttentionWorkspaceFloats,
                          [&](const AttentionTile& tile) {
                            AttendParts(kernels, tile, parts, arenas, Sequence::kHeadOffset);
                          });
}

TEST(AttendPartsTest, IsPlainAttentionBitForBitWherePartsMeetAtSplits) {
  for (const KvElement kv : kElements) {
    for (const Shape& shape : {Shape{.context = 1500, .rows = 1, .kv = kv},
                               Shape{.context = 1100, .rows = 40, .heads = 2, .kv = kv},
                               Shape{.context = 900, .rows = 20, .window = 400, .kv = kv}}) {
      for (uint32_t seed = 0; seed < 3; ++seed) {
        SCOPED_TRACE(testing::Message() << shape << " seed " << seed);
        Sequence together(shape, seed);
        const Sequence::Result wanted = together.Run(KernelsOf(BestIsa()), shape.rows, shape.heads);
        std::mt19937 rng(seed);
        Sequence apart(shape, seed, RandomRuns(together.num_blocks(), kSplitBlocks, rng));
        for (const KernelTable* path : AllPaths()) {
          ExpectSame(AttendRuns(apart, *path, shape.rows, shape.heads), wanted, shape, path->name);
          ExpectSame(AttendRuns(apart, *path, 16, shape.heads), wanted, shape, path->name);
        }
      }
    }
  }
}

TEST(AttendPartsTest, IsNearDoubleWhereverPartsMeetAndOneFunctionOfTheCut) {
  for (const KvElement kv : kElements) {
    const Shape shape{.context = 700, .rows = 40, .heads = 2, .kv = kv};
    for (uint32_t seed = 0; seed < 4; ++seed) {
      SCOPED_TRACE(testing::Message() << shape << " seed " << seed);
      std::mt19937 rng(seed);
      Sequence sequence(shape, seed, RandomRuns(44, 1 + seed % 4, rng));
      const Sequence::Result got = AttendRuns(sequence, KernelsOf(Isa::kScalar), 40, 2);
      sequence.ExpectNear(got, sequence.Naive());
      for (const KernelTable* path : AllPaths()) {
        ExpectSame(AttendRuns(sequence, *path, 16, 2), got, shape, path->name);
        ExpectSame(AttendRuns(sequence, *path, 1, 1), got, shape, path->name);
      }
    }
  }
}

TEST(AttendPartsTest, PartsThatNoRowSeesGiveNothing) {
  Sequence sequence({.context = 64, .rows = 2, .heads = 2}, 1);
  const KvArena arena{.data = sequence.ArenaData(0), .block_stride = sequence.block_stride()};
  const KvPart behind{.first_block = 4, .num_blocks = 4, .blocks = sequence.table().data()};
  const Sequence::Result result =
      sequence.RunWith(2, 2, PartialAttentionWorkspaceFloats, [&](const AttentionTile& tile) {
        AttendParts(KernelsOf(BestIsa()), tile, {&behind, 1}, {&arena, 1}, Sequence::kHeadOffset);
      });
  for (const float x : result.out) ASSERT_EQ(x, 0.0f);
  for (const float lse : result.lse) ASSERT_EQ(lse, -std::numeric_limits<float>::infinity());
}

// ---- The engine ---------------------------------------------------------------------------------

constexpr int32_t kTokens = 560, kKept = 530;  // computed before blocks move to host memory: 33
constexpr int32_t kContextBlocks = 38;

// An engine with a host arena whose blocks lie further apart than the device's.
struct TwoArenas {
  TwoArenas(const LoadedModel& model, CpuEngineOptions options)
      : block_bytes(Transformer::KvLayoutOf(model.config, options.kv_dtype).block_bytes()),
        stride((block_bytes + 4095) / 4096 * 4096),
        host(stride * kContextBlocks, std::byte{0xff}) {
    options.host_kv = {.data = host.data(), .block_stride = stride, .num_blocks = kContextBlocks};
    engine = MakeEngine(model, options);
  }
  // Moves the blocks of `table` that `in_host` chooses to slots in descending order; what they
  // leave on the device is made unreadable.
  void Move(std::vector<BlockId>& table, const std::vector<bool>& in_host) {
    int32_t slot = kContextBlocks;
    for (size_t i = 0; i < in_host.size(); ++i) {
      if (!in_host[i]) continue;
      --slot;
      std::byte* from = engine->kv_arena() + static_cast<size_t>(Number(table[i])) * block_bytes;
      std::memcpy(host.data() + static_cast<size_t>(slot) * stride, from, block_bytes);
      std::memset(from, 0xff, block_bytes);
      table[i] = HostBlock(engine->info().num_blocks, TierSlot{slot});
    }
  }
  size_t block_bytes, stride;
  AlignedBytes host;
  std::unique_ptr<CpuEngine> engine;
};

// Logits of rows [begin, end), after the KV of those before was computed in one chunk and `between`
// had its say about the block table; beside them another sequence decodes.
template <typename Between>
std::vector<float> LaterLogits(CpuEngine& engine, const std::vector<TokenId>& tokens, int32_t begin,
                               int32_t chunk, const Between& between) {
  const auto vocab = static_cast<size_t>(engine.info().vocab_size);
  const auto end = static_cast<int32_t>(tokens.size());
  std::vector<BlockId> table = Blocks(20, kContextBlocks, 7);
  StepPlan plan;
  AddRows(plan, SequenceSlot{0}, tokens, 0, begin, table);
  engine.transformer().Forward(plan, engine.kv_arena());
  between(table);
  std::vector<float> logits(static_cast<size_t>(end - begin) * vocab);
  for (int32_t at = begin; at < end; at += chunk) {
    const int32_t count = std::min(chunk, end - at);
    plan.Clear();
    AddRows(plan, SequenceSlot{1}, tokens, at - begin, 1, Blocks(80, 4));
    AddRows(plan, SequenceSlot{0}, tokens, at, count, table).prompt_top_logprobs = 0;
    engine.transformer().Forward(plan, engine.kv_arena());
    std::vector<int32_t> rows(static_cast<size_t>(count));
    std::iota(rows.begin(), rows.end(), 1);
    engine.transformer().Logits(rows, logits.data() + static_cast<size_t>(at - begin) * vocab);
  }
  return logits;
}

CpuEngineOptions SmallOptions(KvDtype dtype) {
  return {.threads = 2, .kv_dtype = dtype, .num_sequence_slots = 4, .step_tokens_max = 600};
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas;
  for (const KernelTable* path : AllPaths()) isas.push_back(path->isa);
  return isas;
}

class HostBlocksTest : public testing::TestWithParam<KvDtype> {};

TEST_P(HostBlocksTest, WholeSplitsInHostMemoryChangeNoBitOfTheLogits) {
  for (const int32_t window : {0, 300}) {
    RandomModel random({.sliding_window = window});
    const std::vector<TokenId> tokens = random.RandomTokens(kTokens);
    const std::vector<float> wanted =
        LaterLogits(*MakeEngine(random.model, SmallOptions(GetParam())), tokens, kKept, 30,
                    [](std::vector<BlockId>&) {});
    for (const float logit : wanted) ASSERT_TRUE(std::isfinite(logit));
    for (const Isa isa : SupportedIsas()) {
      CpuEngineOptions options = SmallOptions(GetParam());
      options.isa = isa;
      TwoArenas arenas(random.model, options);
      for (const auto& [first, second] : {std::pair(true, true), {true, false}, {false, true}}) {
        std::vector<bool> in_host(kSplitBlocks, first);
        in_host.resize(2 * kSplitBlocks, second);
        for (const int32_t chunk : {1, 30}) {
          SCOPED_TRACE(testing::Message() << IsaName(isa) << " window " << window << " splits "
                                          << first << second << " chunks of " << chunk);
          ASSERT_TRUE(SameBits(
              LaterLogits(*arenas.engine, tokens, kKept, chunk,
                          [&](std::vector<BlockId>& table) { arenas.Move(table, in_host); }),
              wanted));
        }
      }
    }
  }
}

TEST_P(HostBlocksTest, OtherBlocksInHostMemoryChangeRoundingAloneAndTheSameWhateverTheStep) {
  RandomModel random({});
  const std::vector<TokenId> tokens = random.RandomTokens(kTokens);
  const std::vector<float> plain = LaterLogits(*MakeEngine(random.model, SmallOptions(GetParam())),
                                               tokens, kKept, 30, [](std::vector<BlockId>&) {});
  const auto [low, high] = std::minmax_element(plain.begin(), plain.end());
  for (uint32_t seed = 2; seed <= 3; ++seed) {
    std::mt19937 rng(seed);
    std::vector<bool> in_host(kKept / kBlockTokens);
    for (size_t i = 0; i < in_host.size(); ++i) in_host[i] = rng() % seed == 0;
    std::vector<float> wanted;
    for (const Isa isa : SupportedIsas()) {
      for (const int32_t threads : {1, 3}) {
        CpuEngineOptions options = SmallOptions(GetParam());
        options.isa = isa;
        options.threads = threads;
        TwoArenas arenas(random.model, options);
        for (const int32_t chunk : {1, 30}) {
          SCOPED_TRACE(testing::Message() << IsaName(isa) << " seed " << seed << ", " << threads
                                          << " threads, chunks of " << chunk);
          const std::vector<float> logits =
              LaterLogits(*arenas.engine, tokens, kKept, chunk,
                          [&](std::vector<BlockId>& table) { arenas.Move(table, in_host); });
          if (wanted.empty()) wanted = logits;
          ASSERT_TRUE(SameBits(logits, wanted));
        }
      }
    }
    EXPECT_FALSE(SameBits(wanted, plain)) << "a cut inside a split, and no bit tells of it?";
    for (size_t i = 0; i < plain.size(); ++i) {
      ASSERT_NEAR(wanted[i], plain[i], 2e-3 * (*high - *low)) << "seed " << seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(KvTypes, HostBlocksTest, testing::ValuesIn(kDtypes),
                         [](const auto& info) { return std::string(KvDtypeName(info.param)); });

TEST(HostBlocksTest, ExecuteTakesThemButWritesToNone) {
  RandomModel random({});
  CpuEngineOptions options = SmallOptions(KvDtype::kF16);
  options.threads = 1;  // the death test below forks
  TwoArenas arenas(random.model, options);
  EXPECT_EQ(arenas.engine->info().num_host_blocks, kContextBlocks);
  const std::vector<TokenId> tokens = random.RandomTokens(40);
  std::vector<BlockId> table = Blocks(0, 3);
  const auto draw = [&] {  // the last token's row, computed again
    StepPlan plan;
    StepResult result;
    plan.opens.push_back({.slot = SequenceSlot{0}, .sampling = {.temperature = 0.0f}});
    AddRows(plan, SequenceSlot{0}, tokens, 39, 1, table).samples = true;
    EXPECT_TRUE(arenas.engine->Execute(plan, result).ok());
    return result.samples.at(0).token;
  };
  StepPlan plan;
  StepResult result;
  AddRows(plan, SequenceSlot{0}, tokens, 0, 39, table);
  ASSERT_TRUE(arenas.engine->Execute(plan, result).ok());
  const TokenId wanted = draw();
  arenas.Move(table, {true, true});
  EXPECT_EQ(draw(), wanted);

  const AlignedBytes& host = arenas.host;
  const std::vector<std::byte> before(host.data(), host.data() + host.size());
  draw();
  EXPECT_EQ(std::memcmp(before.data(), host.data(), host.size()), 0);
  plan.Clear();
  AddRows(plan, SequenceSlot{0}, tokens, 20, 5, table);
  EXPECT_DEATH(arenas.engine->Execute(plan, result).IgnoreError(), "CHECK failed");
}

TEST(HostBlocksTest, AnArenaThatCannotHoldTheModelsBlocksIsRefused) {
  RandomModel random({});
  CpuEngineOptions options = SmallOptions(KvDtype::kI8);
  const size_t block_bytes =
      Transformer::KvLayoutOf(random.model.config, KvDtype::kI8).block_bytes();
  options.kv_device_bytes = static_cast<int64_t>(100 * block_bytes);
  AlignedBytes host(4 * block_bytes);
  options.host_kv = {.data = host.data(), .block_stride = block_bytes - 64, .num_blocks = 4};
  EXPECT_THAT(CpuEngine::Create(random.model, options).status().message(),
              HasSubstr("blocks of this model take " + std::to_string(block_bytes)));
  options.host_kv.block_stride = block_bytes;
  EXPECT_TRUE(CpuEngine::Create(random.model, options).ok());
}

}  // namespace
}  // namespace holdfast
