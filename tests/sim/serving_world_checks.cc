// What must hold in a served trace; see serving_world.h.
#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "gtest/gtest.h"
#include "tests/sim/metric_values.h"
#include "tests/sim/serving_world.h"

namespace holdfast {
namespace {

constexpr uint64_t kContentEvery = 8;  // events
constexpr std::array<TierKind, kNumPlaceTiers> kTiers = {TierKind::kDevice, TierKind::kHost,
                                                         TierKind::kDisk};

size_t SharedTokens(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  const auto [end, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(end - a.begin());
}

}  // namespace

void ServingWorld::Check() {
  bench_->scheduler->CheckInvariants();
  const KvStore& store = bench_->scheduler->store();
  uint64_t under_way = 0;
  for (const MoveCounters& moves : store.counters().moves) {
    under_way += moves.started - moves.done - moves.failed;
  }
  ASSERT_EQ(under_way, static_cast<uint64_t>(store.num_moves()));
  ASSERT_LE(mover_->num_under_way(), store.num_moves());
  if (totals_.events % kContentEvery == 0) CheckContent();
}

void ServingWorld::CheckContent() {
  const KvStore& store = bench_->scheduler->store();
  const PrefixIndex& index = store.index();
  std::map<NodeId, uint64_t> seen;  // by who comes after the node
  const auto holds = [](std::span<const std::byte> bytes, const std::vector<uint64_t>& kv) {
    return std::memcmp(bytes.data(), kv.data(), kSimBlockBytes) == 0;
  };
  // Parents first.
  std::vector<NodeId> nodes;
  for (int32_t i = 0; i < index.num_nodes_ever(); ++i) {
    if (const NodeId id{static_cast<uint32_t>(i)}; index.Contains(id)) nodes.push_back(id);
  }
  std::ranges::stable_sort(nodes, {}, [&](NodeId id) { return index[id].depth; });
  for (NodeId id : nodes) {
    const PrefixNode& node = index[id];
    const uint8_t mark = marks_.at(index.scope(id));
    const std::optional<NodeId> parent = index.parent(id);
    uint64_t visible = parent ? seen.at(*parent) : 0;
    std::vector<uint64_t> kv;
    for (int32_t i = 0; i < kBlockTokens; ++i) {
      kv.push_back(FakeEngine::KvOf(visible, node.tokens[static_cast<size_t>(i)],
                                    node.depth * kBlockTokens + i, mark));
      visible = FakeEngine::See(visible, kv.back());
    }
    seen.emplace(id, visible);
    for (TierKind tier : kTiers) {
      const int32_t place = node.at.place[TierAt(tier)];
      if (place == kNoPlace) continue;
      const TierSlot slot{place};
      if (tier == TierKind::kDevice) {
        if (node.at.arriving) continue;
        ASSERT_TRUE(holds(bench_->engine.Bytes(BlockId{place}), kv)) << "device block " << place;
      } else if (tier == TierKind::kHost) {
        if (host_->IsDamaged(slot)) continue;
        ASSERT_TRUE(holds(host_medium_->View(slot), kv)) << "host slot " << place;
      } else {
        if (disk_medium_ == nullptr || disk_->IsDamaged(slot)) continue;
        ASSERT_TRUE(holds(disk_medium_->Raw(slot).subspan(kRecordHeaderBytes), kv))
            << "disk slot " << place;
      }
    }
  }
}

// With nothing to do and nothing under way, whatever is taken is findable.
void ServingWorld::CheckNothingLeaks() {
  const KvStore& store = bench_->scheduler->store();
  const BlockCounts counts = store.counts();
  EXPECT_EQ(counts.held, 0);
  EXPECT_EQ(counts.moving, 0);
  EXPECT_EQ(store.num_moves(), 0);
  EXPECT_EQ(store.num_computing(), 0);
  EXPECT_EQ(store.pins().num_pins(), 0);
  std::array<int32_t, kNumPlaceTiers> findable{};
  for (int32_t i = 0; i < store.index().num_nodes_ever(); ++i) {
    const NodeId id{static_cast<uint32_t>(i)};
    if (!store.index().Contains(id)) continue;
    for (size_t t = 0; t < kNumPlaceTiers; ++t) {
      if (store.index()[id].at.place[t] != kNoPlace) ++findable[t];
    }
  }
  EXPECT_EQ(counts.evictable, findable[0]);
  if (host_ != nullptr) {
    EXPECT_EQ(host_->capacity() - host_->num_free(), findable[1]);
  }
  if (disk_ != nullptr) {
    EXPECT_EQ(disk_->capacity() - disk_->num_free(), findable[2]);
  }
}

// Whoever found KV found what somebody has said in the same scope before.
void ServingWorld::CheckHits() {
  for (const auto& [id, live] : asked_) {
    const Attempt& attempt = attempts_.at(live.turn)[live.attempt];
    if (!attempt.heard.prompt || attempt.heard.prompt->cached_tokens == 0) continue;
    const auto cached = static_cast<size_t>(attempt.heard.prompt->cached_tokens);
    ASSERT_LT(cached, attempt.request.prompt.size());
    ASSERT_TRUE(attempt.request.reuse_prefix && !attempt.request.prompt_top_logprobs);
    const uint8_t mark = trace_.agents[live.turn.agent].mark;
    bool explained = false;
    for (const auto& [turn, others] : attempts_) {
      if (explained || trace_.agents[turn.agent].mark != mark) continue;
      for (const Attempt& other : others) {
        if (other.request.id == id || !other.request.reuse_prefix) continue;
        explained |= SharedTokens(attempt.request.prompt, other.request.prompt) >= cached;
        for (const auto& [index, choice] : other.heard.choices) {
          explained |= SharedTokens(attempt.request.prompt,
                                    Joined(other.request.prompt, choice.tokens)) >= cached;
        }
      }
    }
    ASSERT_TRUE(explained) << "request " << Number(id) << " found " << cached
                           << " tokens that nobody has said in its scope";
  }
}

void ServingWorld::CheckMetrics() {
  const KvStore& store = bench_->scheduler->store();
  const KvStoreCounters& counters = store.counters();
  const MetricValues values(bench_->registry);
  for (size_t i = 0; i < kTraceTenants; ++i) {
    double cached = 0, prompt = 0;
    for (const auto& [id, live] : asked_) {
      const Attempt& attempt = attempts_.at(live.turn)[live.attempt];
      if (attempt.request.tenant != TenantIndex{static_cast<int32_t>(i)}) continue;
      if (!attempt.heard.prompt) continue;
      cached += attempt.heard.prompt->cached_tokens;
      prompt += static_cast<double>(attempt.request.prompt.size());
    }
    const std::string tenant = "tenant=\"" + how_.scheduler.tenants[i].name + "\"";
    EXPECT_EQ(values.Sum("holdfast_kvstore_hit_tokens_total", {tenant}), cached) << tenant;
    EXPECT_EQ(values.Sum("holdfast_scheduler_cached_tokens_total", {tenant}), cached) << tenant;
    EXPECT_EQ(values.Sum("holdfast_scheduler_prompt_tokens_total", {tenant}), prompt) << tenant;
  }
  uint64_t started = 0, ended = 0;
  for (const MoveCounters& moves : counters.moves) {
    started += moves.started;
    ended += moves.done + moves.failed;
  }
  EXPECT_EQ(values.Sum("holdfast_kvstore_moves_total"), static_cast<double>(ended));
  EXPECT_EQ(values.Sum("holdfast_kvstore_moves_under_way"), static_cast<double>(started - ended));
  EXPECT_EQ(values.Sum("holdfast_kvstore_blocks"), how_.engine.num_blocks);
  EXPECT_EQ(values.Sum("holdfast_kvstore_pins"), store.pins().num_pins());
  double pins_ended = 0;
  for (size_t why = 0; why < kNumPinEnds; ++why) {
    pins_ended += static_cast<double>(store.pins().num_ended(static_cast<PinEnd>(why)));
  }
  EXPECT_EQ(values.Sum("holdfast_kvstore_pins_ended_total"), pins_ended);
  // Whatever came to the device has left it now, and each time was counted once.
  const auto restores = static_cast<size_t>(MoveKind::kRestore);
  EXPECT_EQ(values.Sum("holdfast_kvstore_residency_seconds_count"),
            static_cast<double>(counters.blocks_published + counters.moves[restores].done -
                                mover_->num_restored_for_nobody()));
}

}  // namespace holdfast
