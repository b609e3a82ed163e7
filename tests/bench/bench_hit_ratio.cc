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
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kvstore/eviction/cost_aware.h"
#include "kvstore/eviction/lru.h"
#include "kvstore/kv_store.h"

ABSL_FLAG(std::vector<std::string>, policies, std::vector<std::string>({"lru", "cost-aware"}),
          "of lru, cost-aware, infinite");
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

struct Found {
  double tokens = 0, hit_tokens = 0, flop = 0, saved_flop = 0;
  int64_t too_long = 0;
};

double PrefixFlop(double tokens) {
  return tokens * absl::GetFlag(FLAGS_flop_per_token) +
         tokens * tokens / 2 * absl::GetFlag(FLAGS_flop_per_position);
}

KvStoreOptions OptionsOf(const std::string& policy, int32_t num_blocks) {
  KvStoreOptions options = {.device_blocks = num_blocks};
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

void Measure(const std::vector<TraceRequest>& trace, const std::string& policy, double gib) {
  int64_t trace_blocks = 1;
  for (const TraceRequest& request : trace) {
    int64_t num_tokens = 0;
    for (const Run& run : request.runs) num_tokens += run.num_tokens;
    trace_blocks += BlocksFor(num_tokens);
  }
  double blocks = std::ldexp(gib, 30) / (absl::GetFlag(FLAGS_bytes_per_token) * kBlockTokens);
  if (policy == "infinite") blocks = static_cast<double>(trace_blocks);
  blocks = std::clamp(blocks, 1.0, static_cast<double>(trace_blocks));
  KvStore store(OptionsOf(policy, static_cast<int32_t>(blocks)));
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
    if (policy != "lru" && policy != "cost-aware") {
      std::fprintf(stderr, "no policy '%s'; there are lru, cost-aware, infinite\n", policy.c_str());
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
