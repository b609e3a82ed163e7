// How much of a trace's prompts a KvStore of a given size finds, under each eviction policy.
//
// Reads one request a line from standard input, in the order of time (hit_ratio.py makes them):
//
//   <microseconds> <content>:<tokens> <content>:<tokens> ...
//
// Token i of a content is the same wherever the content stands, so equal leading contents are equal
// prefixes. Each request takes its prompt from the store, publishes it and lets go of it at once; a
// prompt that is longer than the store is computed outside it and finds nothing. Writes one JSON
// object for each policy and size.
//
// clairvoyant knows the trace, and lets go what is used again last (Belady, IBM Systems Journal
// 1966): how much any order could find.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kvstore/eviction/cost_aware.h"
#include "kvstore/eviction/lru.h"
#include "kvstore/eviction/place_heap.h"
#include "kvstore/eviction/policy.h"
#include "kvstore/kv_store.h"

ABSL_FLAG(std::vector<std::string>, policies, std::vector<std::string>({"lru", "cost-aware"}),
          "of lru, cost-aware, clairvoyant, infinite");
ABSL_FLAG(std::vector<std::string>, gib, std::vector<std::string>({"1", "4", "16"}),
          "sizes of the store in GiB; infinite ignores them");
ABSL_FLAG(double, bytes_per_token, 23040, "KV bytes of one token: default model, f16");
ABSL_FLAG(double, flop_per_token, 2 * 106.2e6, "work of a token: two for each weight");
ABSL_FLAG(double, flop_per_position, 4.0 * 30 * 9 * 64, "and for each token before it");
ABSL_FLAG(double, half_life_s, 1800, "of what cost-aware has learnt");

namespace holdfast {
namespace {

struct Run {
  uint64_t content = 0;
  int32_t num_tokens = 0;
};

struct TraceRequest {
  absl::Time at;
  std::vector<Run> runs;
};

uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

std::optional<std::vector<TraceRequest>> ReadTrace(std::istream& in) {
  std::vector<TraceRequest> requests;
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream fields(line);
    int64_t micros = 0;
    if (!(fields >> micros)) return std::nullopt;
    TraceRequest request = {.at = absl::FromUnixMicros(micros), .runs = {}};
    Run run;
    for (char colon = 0; fields >> run.content >> colon >> run.num_tokens;) {
      if (colon != ':' || run.num_tokens < 0) return std::nullopt;
      request.runs.push_back(run);
    }
    if (!fields.eof()) return std::nullopt;
    requests.push_back(std::move(request));
  }
  return requests;
}

void FillTokens(const TraceRequest& request, std::vector<TokenId>& tokens) {
  tokens.clear();
  for (const Run& run : request.runs) {
    const uint64_t seed = Mix(run.content + 0x9E3779B97F4A7C15u);
    for (int32_t i = 0; i < run.num_tokens; ++i) {
      tokens.push_back(static_cast<TokenId>(Mix(seed + static_cast<uint64_t>(i)) & 0x7FFFFFFF));
    }
  }
}

// The prompts' contents in the order of their release, and for each the request that uses it next.
struct Future {
  static constexpr int32_t kNever = std::numeric_limits<int32_t>::max();
  std::vector<uint64_t> contents;
  std::vector<int32_t> next_uses;  // as many, once all contents are known
  std::vector<size_t> ends;        // of each request's contents

  void LookAhead() {
    absl::flat_hash_map<uint64_t, int32_t> next;
    next_uses.assign(contents.size(), kNever);
    for (size_t request = ends.size(); request-- > 0;) {
      const size_t begin = request == 0 ? 0 : ends[request - 1];
      for (size_t i = begin; i < ends[request]; ++i) {
        const auto [at, is_new] = next.try_emplace(contents[i], static_cast<int32_t>(request));
        if (is_new) continue;
        next_uses[i] = at->second;
        at->second = static_cast<int32_t>(request);
      }
    }
  }
};

// Evicts nothing; writes down the uses.
class Recorder final : public EvictionPolicy {
 public:
  explicit Recorder(Future& future) : future_(future) {}

  void Add(const EvictableBlock& /*block*/, absl::Time /*now*/) override { ++size_; }
  void Remove(int32_t /*place*/, EvictionLeave /*why*/, absl::Time /*now*/) override { --size_; }
  void OnUsed(uint64_t content, int32_t depth, absl::Time /*now*/) override {
    if (depth == 0 && !future_.contents.empty()) future_.ends.push_back(future_.contents.size());
    future_.contents.push_back(content);
  }
  std::optional<Victim> Worst(absl::Time /*now*/) override { return std::nullopt; }
  int32_t size() const override { return size_; }

 private:
  Future& future_;
  int32_t size_ = 0;
};

class Clairvoyant final : public EvictionPolicy {
 public:
  Clairvoyant(int32_t capacity, const Future& future) : future_(future), heap_(capacity) {}

  void Add(const EvictableBlock& block, absl::Time /*now*/) override {
    heap_.Push(block.place, {.next_use = next_use_.at(block.content), .depth = block.depth});
  }
  void Remove(int32_t place, EvictionLeave /*why*/, absl::Time /*now*/) override {
    heap_.Remove(place);
  }
  void OnUsed(uint64_t content, int32_t /*depth*/, absl::Time /*now*/) override {
    next_use_[content] = future_.next_uses[used_++];
  }
  std::optional<Victim> Worst(absl::Time /*now*/) override {
    if (heap_.size() == 0) return std::nullopt;
    const auto& last = heap_.Top();
    return Victim{.place = last.place, .keep_value = -static_cast<double>(last.key.next_use)};
  }
  int32_t size() const override { return heap_.size(); }

 private:
  struct Key {
    int32_t next_use = 0;
    int32_t depth = 0;
    bool operator<(const Key& other) const {
      return std::tie(other.next_use, other.depth) < std::tie(next_use, depth);
    }
  };

  const Future& future_;
  PlaceHeap<Key> heap_;
  absl::flat_hash_map<uint64_t, int32_t> next_use_;
  size_t used_ = 0;
};

struct Found {
  double tokens = 0, hit_tokens = 0, flop = 0, saved_flop = 0;
  int64_t too_long = 0;
};

double PrefixFlop(double tokens) {
  return tokens * absl::GetFlag(FLAGS_flop_per_token) +
         tokens * tokens / 2 * absl::GetFlag(FLAGS_flop_per_position);
}

// `future`: of the same trace on a store of this size; for clairvoyant alone.
KvStoreOptions OptionsOf(const std::string& policy, int32_t num_blocks, const Future& future) {
  KvStoreOptions options = {.device_blocks = num_blocks};
  if (policy == "clairvoyant") {
    options.eviction = [&future](TierKind, int32_t capacity) {
      return std::make_unique<Clairvoyant>(capacity, future);
    };
    return options;
  }
  if (policy == "cost-aware") {
    const CostAwareOptions cost_aware = {
        .cost = {.token = absl::GetFlag(FLAGS_flop_per_token),
                 .per_position = absl::GetFlag(FLAGS_flop_per_position)},
        .half_life = absl::Seconds(absl::GetFlag(FLAGS_half_life_s))};
    options.eviction = [cost_aware](TierKind, int32_t capacity) {
      return std::make_unique<CostAwareEviction>(capacity, cost_aware);
    };
  } else {
    options.eviction = [](TierKind, int32_t capacity) {
      return std::make_unique<LruEviction>(capacity);
    };
  }
  return options;
}

// Of the first and the second half of the trace's requests.
std::array<Found, 2> Replay(const std::vector<TraceRequest>& trace, KvStore& store) {
  std::array<Found, 2> halves;
  const ReuseScope scope{};
  std::vector<TokenId> tokens;
  std::vector<BlockId> table;
  for (size_t i = 0; i < trace.size(); ++i) {
    const TraceRequest& request = trace[i];
    FillTokens(request, tokens);
    Found& found = halves[i < trace.size() / 2 ? 0 : 1];
    const auto num_tokens = static_cast<int32_t>(tokens.size());
    found.tokens += num_tokens;
    found.flop += PrefixFlop(num_tokens);
    PublishedPrefix prefix;
    const std::optional<PrefixGrant> grant =
        store.TryAcquirePrefix({.scope = scope,
                                .tokens = tokens,
                                .reuse = PrefixReuse::kMatchAndPublish,
                                .num_blocks = BlocksFor(num_tokens)},
                               request.at, table, prefix);
    if (!grant) {
      ++found.too_long;
      continue;
    }
    found.hit_tokens += grant->cached_tokens;
    found.saved_flop += PrefixFlop(grant->cached_tokens);
    store.Publish(scope, tokens, num_tokens, PrefixReuse::kMatchAndPublish, request.at, table,
                  prefix);
    store.Release(request.at, table, prefix);
  }
  return halves;
}

void PrintFound(const char* name, const Found& found) {
  std::printf(
      "\"%s\": {\"tokens\": %.0f, \"hit\": %.6f, \"saved_compute\": %.6f, "
      "\"too_long\": %lld}",
      name, found.tokens, found.hit_tokens / std::max(found.tokens, 1.0),
      found.saved_flop / std::max(found.flop, 1.0), static_cast<long long>(found.too_long));
}

int64_t BlocksOf(const TraceRequest& request) {
  int64_t num_tokens = 0;
  for (const Run& run : request.runs) num_tokens += run.num_tokens;
  return BlocksFor(num_tokens);
}

int64_t BlocksOf(const std::vector<TraceRequest>& trace) {
  int64_t num_blocks = 1;
  for (const TraceRequest& request : trace) num_blocks += BlocksOf(request);
  return num_blocks;
}

// Of what a store of so many blocks takes.
Future FutureOf(std::vector<TraceRequest> trace, int32_t num_blocks) {
  std::erase_if(trace, [&](const TraceRequest& request) { return BlocksOf(request) > num_blocks; });
  Future future;
  KvStoreOptions options = {.device_blocks = static_cast<int32_t>(BlocksOf(trace))};
  options.eviction = [&](TierKind, int32_t) { return std::make_unique<Recorder>(future); };
  KvStore store(options);
  Replay(trace, store);
  future.ends.push_back(future.contents.size());
  future.LookAhead();
  return future;
}

void Measure(const std::vector<TraceRequest>& trace, const std::string& policy, double gib) {
  const int64_t trace_blocks = BlocksOf(trace);
  double blocks = std::ldexp(gib, 30) / (absl::GetFlag(FLAGS_bytes_per_token) * kBlockTokens);
  if (policy == "infinite") blocks = static_cast<double>(trace_blocks);
  blocks = std::clamp(blocks, 1.0, static_cast<double>(trace_blocks));
  const auto num_blocks = static_cast<int32_t>(blocks);
  const Future future = policy == "clairvoyant" ? FutureOf(trace, num_blocks) : Future();
  KvStore store(OptionsOf(policy, num_blocks, future));
  const absl::Time start = absl::Now();
  const std::array<Found, 2> halves = Replay(trace, store);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  store.CheckInvariants();
  Found all;
  for (const Found& half : halves) {
    all.tokens += half.tokens;
    all.hit_tokens += half.hit_tokens;
    all.flop += half.flop;
    all.saved_flop += half.saved_flop;
    all.too_long += half.too_long;
  }
  std::printf(
      "{\"policy\": \"%s\", \"gib\": %g, \"blocks\": %d, \"requests\": %zu, "
      "\"evicted\": %llu, \"seconds\": %.2f, ",
      policy.c_str(), gib, store.capacity(), trace.size(),
      static_cast<unsigned long long>(store.counters().blocks_evicted), seconds);
  PrintFound("all", all);
  std::printf(", ");
  PrintFound("first_half", halves[0]);
  std::printf(", ");
  PrintFound("second_half", halves[1]);
  std::printf("}\n");
  std::fflush(stdout);
}

int Main() {
  const std::optional<std::vector<TraceRequest>> trace = ReadTrace(std::cin);
  if (!trace || trace->empty()) {
    std::fprintf(stderr, "standard input holds no trace: lines of `microseconds id:tokens ...`\n");
    return 1;
  }
  for (const std::string& policy : absl::GetFlag(FLAGS_policies)) {
    if (policy == "infinite") {
      Measure(*trace, policy, 0);
      continue;
    }
    if (policy != "lru" && policy != "cost-aware" && policy != "clairvoyant") {
      std::fprintf(stderr, "no policy '%s'; there are lru, cost-aware, clairvoyant, infinite\n",
                   policy.c_str());
      return 1;
    }
    for (const std::string& gib_text : absl::GetFlag(FLAGS_gib)) {
      double gib = 0;
      const auto parsed = std::from_chars(gib_text.data(), gib_text.data() + gib_text.size(), gib);
      if (parsed.ec != std::errc() || !(gib > 0)) {
        std::fprintf(stderr, "--gib=%s is not a size above 0\n", gib_text.c_str());
        return 1;
      }
      Measure(*trace, policy, gib);
    }
  }
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return holdfast::Main();
}
