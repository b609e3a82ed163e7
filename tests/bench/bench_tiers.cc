// How fast blocks come back from the lower tiers, beside what the machine can do at all with the
// same sizes in the same run. JSON by --benchmark_format=json.
//
//   HostRestore / Memcpy          at least 0.70
//   PrefixRestore                 when the first layer of a prefix is back, and when all of it is
//   DiskRestore / DirectRead      at least 0.80; with fio installed, beside FioRead as well
//   DiskOpen                      a restart: scan of so many GiB of blocks
//
// The disk's files lie in HOLDFAST_BENCH_DIR (default: the current folder); DiskOpen of 5 GiB takes
// that much room. Blocks have the size of the default model's (f16: 368640 bytes) unless the name
// says another.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "config/base/check.h"
#include "config/base/page_buffer.h"
#include "kvstore/disk_tier.h"
#include "kvstore/host_tier.h"
#include "kvstore/layer_gate.h"
#include "kvstore/tier_mover.h"

namespace holdfast {
namespace {

constexpr size_t kBlockBytes = 368640;
constexpr size_t kBatch = 16;  // TierMoverOptions::batch_blocks

BlockIdentity Identity(int32_t i) {
  BlockIdentity identity;
  identity.digest = RootDigest(identity.scope);
  identity.parent = identity.digest;
  identity.tokens[0] = i;
  identity.digest = NextDigest(identity.parent, identity.tokens);
  return identity;
}

PageBuffer Pages(size_t bytes) {
  std::optional<PageBuffer> pages = PageBuffer::Map(bytes);
  CHECK(pages.has_value());
  std::memset(pages->data(), 1, bytes);  // present before it is timed
  return *std::move(pages);
}

// ---- host
// ----------------------------------------------------------------------------------------

// Blocks in shuffled order, from and to 1.5 GiB: out of memory, not out of a cache.
struct HostSet {
  explicit HostSet(size_t block_bytes)
      : num_blocks((size_t{3} << 28) / block_bytes), device(Pages(num_blocks * block_bytes)) {
    for (size_t i = 0; i < num_blocks; ++i) order.push_back(i);
    std::shuffle(order.begin(), order.end(), std::mt19937(1));
  }
  const size_t num_blocks;
  PageBuffer device;
  std::vector<size_t> order;
};

void Memcpy(benchmark::State& state) {
  const size_t block_bytes = static_cast<size_t>(state.range(0));
  HostSet set(block_bytes);
  const PageBuffer source = Pages(set.num_blocks * block_bytes);
  size_t i = 0;
  for (auto _ : state) {
    std::memcpy(set.device.data() + i * block_bytes, source.data() + set.order[i] * block_bytes,
                block_bytes);
    benchmark::ClobberMemory();
    i = (i + 1) % set.num_blocks;
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

// The default model's, and about as many.
int32_t LayersOf(size_t block_bytes) { return block_bytes == kBlockBytes ? 30 : 32; }

template <bool kIsRestore>
void HostMove(benchmark::State& state) {
  const size_t block_bytes = static_cast<size_t>(state.range(0));
  HostSet set(block_bytes);
  auto tier = *HostTier::Create(static_cast<int64_t>(set.num_blocks * (block_bytes + 4096)),
                                block_bytes, LayersOf(block_bytes));
  const BlockIdentity identity = Identity(0);
  std::vector<TierSlot> slots;
  const auto transfer = [&](size_t i) {
    return TierTransfer{.slot = slots[set.order[i]],
                        .identity = &identity,
                        .bytes = {set.device.data() + i * block_bytes, block_bytes}};
  };
  for (size_t i = 0; i < set.num_blocks; ++i) slots.push_back(*tier->TryReserve());
  for (size_t i = 0; i < set.num_blocks; ++i) {
    TierTransfer put = transfer(i);
    tier->Put({&put, 1});
  }
  size_t i = 0;
  for (auto _ : state) {
    if (!kIsRestore) {  // into pages that are there, as once the tier is warm
      tier->Drop(slots[set.order[i]]);
      slots[set.order[i]] = *tier->TryReserve();
    }
    TierTransfer move = transfer(i);
    kIsRestore ? tier->Fetch({&move, 1}) : tier->Put({&move, 1});
    if (!move.status.ok()) state.SkipWithError("a move failed");
    i = (i + 1) % set.num_blocks;
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
void HostRestore(benchmark::State& state) { HostMove<true>(state); }
void HostOffload(benchmark::State& state) { HostMove<false>(state); }

class BenchDevice final : public BlockMover {
 public:
  BenchDevice(std::byte* arena, size_t block_bytes) : arena_(arena), block_bytes_(block_bytes) {}
  std::span<std::byte> HostView(BlockId block) override {
    return {arena_ + static_cast<size_t>(Number(block)) * block_bytes_, block_bytes_};
  }
  absl::Status CopyOut(BlockId, std::span<std::byte>) override { return absl::OkStatus(); }
  absl::Status CopyIn(BlockId, std::span<const std::byte>) override { return absl::OkStatus(); }

 private:
  std::byte* const arena_;
  const size_t block_bytes_;
};

// A prompt of 4,000 tokens, 250 blocks, by the mover: layer by layer behind a gate, or whole. The
// counters are the best round's: others on the machine only ever make it slower.
void PrefixRestore(benchmark::State& state, bool by_layers) {
  constexpr int32_t kPrefixBlocks = 250;
  HostSet set(kBlockBytes);
  const int32_t num_layers = LayersOf(kBlockBytes);
  auto tier = *HostTier::Create(static_cast<int64_t>(set.num_blocks * (kBlockBytes + 4096)),
                                kBlockBytes, num_layers);
  const BlockIdentity identity = Identity(0);
  std::vector<TierSlot> slots;
  for (size_t i = 0; i < set.num_blocks; ++i) slots.push_back(*tier->TryReserve());
  BenchDevice device(set.device.data(), kBlockBytes);
  for (size_t i = 0; i < set.num_blocks; ++i) {
    TierTransfer put{.slot = slots[i],
                     .identity = &identity,
                     .bytes = device.HostView(BlockId{static_cast<int32_t>(i)})};
    tier->Put({&put, 1});
  }
  LayerGate gate(0, num_layers);
  std::atomic<int32_t> num_done = 0;
  Tier* const tiers[] = {tier.get()};
  TierMover mover(device, tiers, {.block_bytes = kBlockBytes}, [&](MoveDone&& done) {
    CHECK(done.status.ok());
    ++num_done;
    num_done.notify_all();
  });
  size_t next = 0;
  absl::Duration best_first = absl::InfiniteDuration(), best_all = absl::InfiniteDuration();
  for (auto _ : state) {
    num_done = 0;
    gate.Arm(kPrefixBlocks);
    const absl::Time start = absl::Now();
    for (int32_t i = 0; i < kPrefixBlocks; ++i) {
      const size_t block = next++ % set.num_blocks;
      CHECK(mover.TrySubmit({.kind = MoveKind::kRestore,
                             .block = BlockId{static_cast<int32_t>(block)},
                             .tier = TierKind::kHost,
                             .slot = slots[set.order[block]],
                             .gate = by_layers ? &gate : nullptr,
                             .identity = identity}));
    }
    if (by_layers) {
      CHECK(gate.Wait(1));
      best_first = std::min(best_first, absl::Now() - start);
      CHECK(gate.Wait(num_layers));
    } else {
      gate.Fail();  // nobody's
      for (int32_t done = num_done; done < kPrefixBlocks; done = num_done) num_done.wait(done);
      best_first = std::min(best_first, absl::Now() - start);
    }
    best_all = std::min(best_all, absl::Now() - start);
  }
  state.counters["first_layer_ms"] = absl::ToDoubleMilliseconds(best_first);
  state.counters["all_ms"] = absl::ToDoubleMilliseconds(best_all);
}

// By turns, and by time: on a shared machine bandwidth changes from second to second.
BENCHMARK(Memcpy)->Arg(kBlockBytes)->Arg(2 << 20);
BENCHMARK(HostRestore)->Arg(kBlockBytes)->Arg(2 << 20);
BENCHMARK(HostOffload)->Arg(kBlockBytes)->Arg(2 << 20);
BENCHMARK_CAPTURE(PrefixRestore, by_layers, true)->UseRealTime()->MinTime(2);
BENCHMARK_CAPTURE(PrefixRestore, whole, false)->UseRealTime()->MinTime(2);

// ---- disk
// ----------------------------------------------------------------------------------------

class BenchDirectory final {
 public:
  BenchDirectory() {
    const char* parent = getenv("HOLDFAST_BENCH_DIR");
    std::string path = std::string(parent != nullptr ? parent : ".") + "/bench-tiers-XXXXXX";
    CHECK(mkdtemp(path.data()) != nullptr);
    path_ = path;
  }
  ~BenchDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::unique_ptr<DiskTier> OpenTier(const std::string& directory, int64_t bytes, DiskIoKind io) {
  auto tier = DiskTier::Open({.directory = directory,
                              .bytes_max = bytes + bytes / 4 + (512 << 20),
                              .block_bytes = kBlockBytes,
                              .io = io});
  if (!tier.ok()) {
    std::fprintf(stderr, "%s\n", tier.status().ToString().c_str());
    std::abort();
  }
  return *std::move(tier);
}

// A tier of `bytes`, written once for all benchmarks of that size.
struct DiskSet {
  explicit DiskSet(int64_t bytes) : bytes(bytes), memory(Pages(kBatch * kBlockBytes)) {
    auto tier = OpenTier(directory.path(), bytes, DiskIoKind::kAuto);
    for (int64_t done = 0; done < bytes;) {
      std::vector<BlockIdentity> identities;
      std::vector<TierTransfer> puts;
      for (size_t i = 0; i < kBatch; ++i) identities.push_back(Identity(num_blocks++));
      for (size_t i = 0; i < kBatch; ++i) {
        puts.push_back({.slot = *tier->TryReserve(),
                        .identity = &identities[i],
                        .bytes = {memory.data() + i * kBlockBytes, kBlockBytes}});
        done += static_cast<int64_t>(kBlockBytes);
      }
      tier->Put(puts);
      for (const TierTransfer& put : puts) CHECK(put.status.ok());
    }
  }
  static DiskSet& OfGib(int64_t gib) {
    static std::unique_ptr<DiskSet> set;
    if (set == nullptr || set->bytes != gib << 30) {
      set.reset();
      set = std::make_unique<DiskSet>(gib << 30);
    }
    return *set;
  }
  const int64_t bytes;
  BenchDirectory directory;
  PageBuffer memory;
  int32_t num_blocks = 0;
};

// By two threads, as the mover has for it: one proves its blocks while the other's are read.
void DiskRestore(benchmark::State& state, DiskIoKind io) {
  static std::unique_ptr<DiskTier> tier;
  static std::vector<RecoveredBlock> blocks;
  if (state.thread_index() == 0) {  // the others wait where the loop begins
    DiskSet& set = DiskSet::OfGib(1);
    tier = OpenTier(set.directory.path(), set.bytes, io);
    blocks = tier->RecoveredBlocks();
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(1));
  }
  const PageBuffer memory = Pages(kBatch * kBlockBytes);
  size_t next = static_cast<size_t>(state.thread_index()) * 1000;
  for (auto _ : state) {
    std::vector<TierTransfer> fetches;
    for (size_t i = 0; i < kBatch; ++i) {
      const RecoveredBlock& block = blocks[next++ % blocks.size()];
      fetches.push_back({.slot = block.slot,
                         .identity = &block.identity,
                         .bytes = {memory.data() + i * kBlockBytes, kBlockBytes}});
    }
    tier->Fetch(fetches);
    for (const TierTransfer& fetch : fetches) {
      if (!fetch.status.ok()) state.SkipWithError("a fetch failed");
    }
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kBatch * kBlockBytes));
  if (state.thread_index() == 0) tier.reset();  // after the others have left the loop
}

// The same reads of the same files by the same number of transfers, without the tier.
void DirectRead(benchmark::State& state, DiskIoKind kind) {
  DiskSet& set = DiskSet::OfGib(1);
  auto io = *MakeDiskIo(kind, 32);
  constexpr size_t kDepth = 2 * kBatch;  // as two threads have
  const PageBuffer memory = Pages(kDepth * kBlockBytes);
  constexpr int64_t kRecordBytes = kBlockBytes + kDiskPageBytes;
  std::vector<std::pair<int, int64_t>> places;
  std::vector<int> files;
  for (const auto& entry : std::filesystem::directory_iterator(set.directory.path())) {
    if (entry.path().extension() != ".hfkv") continue;
    files.push_back(open(entry.path().c_str(), O_RDONLY | O_DIRECT));
    CHECK(files.back() >= 0);
    const int64_t bytes = static_cast<int64_t>(entry.file_size());
    for (int64_t at = 0; at + kRecordBytes <= bytes; at += kRecordBytes) {
      places.emplace_back(files.back(), at + static_cast<int64_t>(kDiskPageBytes));
    }
  }
  std::sort(places.begin(), places.end());
  places.resize(std::min(places.size(), static_cast<size_t>(set.num_blocks)));
  std::shuffle(places.begin(), places.end(), std::mt19937(1));
  size_t next = 0;
  for (auto _ : state) {
    std::vector<DiskTransfer> reads(kDepth);
    for (size_t i = 0; i < kDepth; ++i) {
      std::tie(reads[i].fd, reads[i].offset) = places[next++ % places.size()];
      reads[i].Add(memory.data() + i * kBlockBytes, kBlockBytes);
    }
    io->Run(reads);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kDepth * kBlockBytes));
  for (const int file : files) close(file);
}

// What fio reads with the same sizes, depth and kind of I/O, from a file of its own.
void FioRead(benchmark::State& state, const char* engine) {
  if (std::system("command -v fio >/dev/null 2>&1") != 0) {
    state.SkipWithError("fio is not installed");
    return;
  }
  BenchDirectory directory;
  const std::string command =
      "fio --name=read --directory=" + directory.path() + " --ioengine=" + engine +
      " --rw=randread --norandommap --bs=" + std::to_string(kBlockBytes) +
      " --iodepth=32 --direct=1 --size=1g --runtime=3 --time_based --output-format=terse"
      " --terse-version=3 2>/dev/null";
  for (auto _ : state) {
    FILE* output = popen(command.c_str(), "r");
    CHECK(output != nullptr);
    std::string line(65536, '\0');
    line.resize(fread(line.data(), 1, line.size(), output));
    pclose(output);
    // Field 7 of the terse format: read bandwidth in KiB/s.
    size_t at = 0;
    for (int field = 1; field < 7 && at != std::string::npos; ++field) at = line.find(';', at) + 1;
    state.counters["bytes_per_second"] = 1024 * std::atof(line.c_str() + at);
  }
}

void DiskOpen(benchmark::State& state, DiskIoKind io) {
  DiskSet& set = DiskSet::OfGib(state.range(0));
  for (auto _ : state) {
    auto tier = OpenTier(set.directory.path(), set.bytes, io);
    if (tier->RecoveredBlocks().size() != static_cast<size_t>(set.num_blocks)) {
      state.SkipWithError("not all blocks were found");
    }
    state.PauseTiming();
    tier.reset();
    state.ResumeTiming();
  }
  state.counters["blocks"] = static_cast<double>(set.num_blocks);
}

// In turns with what they are compared with: a shared disk changes from second to second.
BENCHMARK_CAPTURE(FioRead, io_uring, "io_uring")->Iterations(1)->UseRealTime();
BENCHMARK_CAPTURE(DiskRestore, io_uring, DiskIoKind::kUring)->Threads(2)->UseRealTime()->MinTime(3);
BENCHMARK_CAPTURE(DirectRead, io_uring, DiskIoKind::kUring)->UseRealTime()->MinTime(3);
BENCHMARK_CAPTURE(DiskRestore, threads, DiskIoKind::kThreads)
    ->Threads(2)
    ->UseRealTime()
    ->MinTime(3);
BENCHMARK_CAPTURE(DirectRead, threads, DiskIoKind::kThreads)->UseRealTime()->MinTime(3);
BENCHMARK_CAPTURE(DiskOpen, io_uring, DiskIoKind::kUring)->Arg(1)->UseRealTime();
BENCHMARK_CAPTURE(DiskOpen, io_uring, DiskIoKind::kUring)->Arg(5)->UseRealTime();
BENCHMARK_CAPTURE(DiskOpen, threads, DiskIoKind::kThreads)->Arg(5)->UseRealTime();

}  // namespace
}  // namespace holdfast

BENCHMARK_MAIN();
