// What the store costs the scheduler's thread. Run with ./dev bench kvstore --benchmark_format=json
//
//   AcquireCached     match, acquire and release a prompt of 128k tokens of which all is cached
//   LookUp            find nodes of an index with so many blocks, in random order; prefixes of 64
//   MatchInLarge      match and release prompts of 64 blocks in a store with so many blocks
//   DecodeStep        what 256 running sequences ask of the store in one step of decoding
#include <array>
#include <optional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"
#include "config/base/check.h"
#include "kvstore/kv_store.h"

namespace holdfast {
namespace {

constexpr ReuseScope kScope{1};
constexpr int32_t kPrefixBlocks = 64;

TokenId TokenAt(uint64_t seed, uint64_t position) {
  uint64_t x = seed * 0x9e3779b97f4a7c15u + position;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  return static_cast<TokenId>((x ^ (x >> 27)) % 150'000);
}

std::vector<TokenId> Tokens(uint64_t seed, int32_t num_blocks) {
  std::vector<TokenId> tokens(static_cast<size_t>(num_blocks) * kBlockTokens + 1);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = TokenAt(seed, i);
  return tokens;
}

absl::Time At(int64_t step) { return absl::UnixEpoch() + absl::Milliseconds(step); }

struct Holder {
  std::vector<BlockId> table;
  PublishedPrefix prefix;
};

PrefixRequest RequestFor(const std::vector<TokenId>& tokens) {
  return {.scope = kScope,
          .tokens = tokens,
          .num_blocks = BlocksFor(static_cast<int64_t>(tokens.size()))};
}

void Fill(KvStore& store, const std::vector<TokenId>& tokens, int64_t step) {
  Holder holder;
  CHECK(store.TryAcquirePrefix(RequestFor(tokens), At(step), holder.table, holder.prefix));
  store.Publish(kScope, tokens, static_cast<int32_t>(tokens.size()), PrefixReuse::kMatchAndPublish,
                At(step), holder.table, holder.prefix);
  store.Release(At(step), holder.table, holder.prefix);
}

void AcquireCached(benchmark::State& state) {
  const auto num_blocks = static_cast<int32_t>(state.range(0));
  KvStore store({.device_blocks = num_blocks + 16});
  const std::vector<TokenId> tokens = Tokens(1, num_blocks);
  Fill(store, tokens, 0);
  int64_t step = 1;
  double release_seconds = 0;
  Holder holder;
  for (auto _ : state) {
    const auto grant =
        store.TryAcquirePrefix(RequestFor(tokens), At(step), holder.table, holder.prefix);
    CHECK(grant && grant->cached_tokens == num_blocks * kBlockTokens);
    state.PauseTiming();
    const absl::Time before = absl::Now();
    store.Release(At(++step), holder.table, holder.prefix);
    release_seconds += absl::ToDoubleSeconds(absl::Now() - before);
    state.ResumeTiming();
  }
  state.counters["release_us"] =
      benchmark::Counter(release_seconds * 1e6, benchmark::Counter::kAvgIterations);
}
BENCHMARK(AcquireCached)->Arg(8192)->Unit(benchmark::kMicrosecond);

// The index alone.
void LookUp(benchmark::State& state) {
  const auto num_blocks = static_cast<int32_t>(state.range(0));
  const BlockKeyFunctions keys = Xxh3BlockKeys();
  PrefixIndex index(num_blocks);
  const int32_t num_prefixes = num_blocks / kPrefixBlocks;
  // All prefixes grow together, so that the nodes of one lie far apart.
  std::vector<std::pair<BlockKey, std::optional<NodeId>>> ends(static_cast<size_t>(num_prefixes),
                                                               {keys.root(kScope), std::nullopt});
  for (uint64_t i = 0; i < kPrefixBlocks; ++i) {
    for (size_t prefix = 0; prefix < ends.size(); ++prefix) {
      auto& [key, parent] = ends[prefix];
      std::array<TokenId, kBlockTokens> block;
      for (size_t j = 0; j < block.size(); ++j) block[j] = TokenAt(prefix, i * kBlockTokens + j);
      key = keys.next(key, block);
      const auto inserted = index.Insert(key, kScope, parent, block, TenantIndex{0});
      CHECK(inserted.outcome == PrefixIndex::Outcome::kNew);
      index.residence(inserted.node).place[0] = 0;
      parent = inserted.node;
    }
  }
  // What is looked up is made beforehand, its keys too: this measures the index.
  struct Query {
    std::vector<TokenId> tokens;
    std::vector<BlockKey> keys;
  };
  std::mt19937 rng(7);
  std::vector<Query> queries(2048);
  for (Query& query : queries) {
    query.tokens = Tokens(rng() % static_cast<uint32_t>(num_prefixes), kPrefixBlocks);
    BlockKey key = keys.root(kScope);
    for (int32_t i = 0; i < kPrefixBlocks; ++i) {
      key = keys.next(key, std::span(query.tokens)
                               .subspan(static_cast<size_t>(i) * kBlockTokens)
                               .first<kBlockTokens>());
      query.keys.push_back(key);
    }
  }
  const ScopeId scope = *index.FindScope(kScope);
  size_t next = 0;
  for (auto _ : state) {
    const Query& query = queries[next++ % queries.size()];
    std::optional<NodeId> parent;
    for (size_t i = 0; i < kPrefixBlocks; ++i) {
      parent = index.Find(query.keys[i], scope, parent,
                          std::span(query.tokens).subspan(i * kBlockTokens).first<kBlockTokens>());
      CHECK(parent.has_value());
    }
  }
  state.SetItemsProcessed(state.iterations() * kPrefixBlocks);
  state.counters["bytes_per_block"] =
      static_cast<double>(index.num_bytes()) / static_cast<double>(index.size());
}
BENCHMARK(LookUp)->Arg(1 << 20)->Arg(10'000'000);

// The whole of an admission and its end, in a store of this size.
void MatchInLarge(benchmark::State& state) {
  const auto num_blocks = static_cast<int32_t>(state.range(0));
  KvStore store({.device_blocks = num_blocks + kPrefixBlocks});
  const int32_t num_prefixes = num_blocks / kPrefixBlocks - 1;
  for (int32_t i = 0; i < num_prefixes; ++i) {
    Fill(store, Tokens(static_cast<uint64_t>(i), kPrefixBlocks), i);
  }
  std::mt19937 rng(7);
  std::vector<std::vector<TokenId>> queries(1024);
  for (std::vector<TokenId>& tokens : queries) {
    tokens = Tokens(rng() % static_cast<uint32_t>(num_prefixes), kPrefixBlocks);
  }
  int64_t step = num_prefixes;
  size_t next = 0;
  Holder holder;
  for (auto _ : state) {
    const std::vector<TokenId>& tokens = queries[next++ % queries.size()];
    CHECK(store.TryAcquirePrefix(RequestFor(tokens), At(++step), holder.table, holder.prefix));
    store.Release(At(step), holder.table, holder.prefix);
  }
  state.SetItemsProcessed(state.iterations() * kPrefixBlocks);
}
BENCHMARK(MatchInLarge)->Arg(1 << 14)->Arg(1 << 18)->Unit(benchmark::kMicrosecond);

// Each sequence has drawn a token: the store is asked to publish, and every sixteenth time to grow.
void DecodeStep(benchmark::State& state) {
  const auto num_sequences = static_cast<size_t>(state.range(0));
  KvStore store({.device_blocks = static_cast<int32_t>(num_sequences) * 80});
  struct Running {
    std::vector<TokenId> tokens;
    Holder holder;
  };
  std::vector<Running> running(num_sequences);
  for (size_t i = 0; i < num_sequences; ++i) {
    running[i].tokens = Tokens(i, 32 + static_cast<int32_t>(i % 8));
    running[i].tokens.resize(running[i].tokens.size() + i % kBlockTokens, 1);
  }
  const auto start = [&](Running& sequence, int64_t step) {
    CHECK(store.TryAcquirePrefix(RequestFor(sequence.tokens), At(step), sequence.holder.table,
                                 sequence.holder.prefix));
  };
  for (Running& sequence : running) start(sequence, 0);
  int64_t step = 1;
  for (auto _ : state) {
    ++step;
    for (Running& sequence : running) {
      store.Publish(kScope, sequence.tokens, static_cast<int32_t>(sequence.tokens.size()),
                    PrefixReuse::kMatchAndPublish, At(step), sequence.holder.table,
                    sequence.holder.prefix);
      sequence.tokens.push_back(static_cast<TokenId>(step % 1000));
      if (BlocksFor(static_cast<int64_t>(sequence.tokens.size())) >
          static_cast<int32_t>(sequence.holder.table.size())) {
        CHECK(store.TryAcquire(1, TenantIndex{0}, At(step), sequence.holder.table));
      }
      if (sequence.tokens.size() > 1000) {  // it ends, and another comes
        store.Release(At(step), sequence.holder.table, sequence.holder.prefix);
        sequence.tokens.resize(513);
        start(sequence, step);
      }
    }
    store.PlanMoves(At(step));
  }
}
BENCHMARK(DecodeStep)->Arg(256)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace holdfast

BENCHMARK_MAIN();
