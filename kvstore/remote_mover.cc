#include "kvstore/remote_mover.h"

#include <algorithm>
#include <utility>

#include "config/base/check.h"
#include "config/limits.h"

namespace holdfast {
namespace {

absl::Status Stopped() { return absl::CancelledError("the daemon stops"); }

}  // namespace

RemoteMover::RemoteMover(BlockMover& device, RemoteTier& tier, const RemoteMoverOptions& options,
                         std::function<void(MoveDone&&)> on_done,
                         std::function<void(RemoteFound&&)> on_found)
    : options_(options),
      device_(device),
      tier_(tier),
      on_done_(std::move(on_done)),
      on_found_(std::move(on_found)),
      sends_(static_cast<size_t>(options.sends_max)),
      outgoing_(static_cast<size_t>(options.sends_max)),
      lookups_(static_cast<size_t>(options.lookups_max)),
      copy_staging_(options.block_bytes, 1) {
  CHECK(options.block_bytes > 0 && options.batch_blocks > 0 && options.fetch_threads > 0);
  CHECK(options.sends_max > 0 && options.restores_max > 0 && options.lookups_max > 0);
  for (int32_t i = 0; i < options.fetch_threads; ++i) {
    fetchers_.push_back(std::make_unique<Fetcher>(options));
  }
  for (const std::unique_ptr<Fetcher>& fetcher : fetchers_) {
    fetcher->thread = std::thread([this, &fetcher = *fetcher] { FetchAll(fetcher); });
  }
  copier_ = std::thread([this] { CopyOut(); });
  sender_ = std::thread([this] { Send(); });
  asker_ = std::thread([this] { Ask(); });
}

RemoteMover::~RemoteMover() { Stop(); }

bool RemoteMover::TrySubmit(MoveJob&& job) {
  if (job.kind == MoveKind::kSend) {
    if (num_sends_.fetch_add(1, std::memory_order_relaxed) < options_.sends_max &&
        sends_.Push(std::move(job))) {
      return true;
    }
    num_sends_.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  CHECK(job.kind == MoveKind::kRestore && job.tier == TierKind::kRemote);
  const uint32_t turn = next_fetcher_.fetch_add(1, std::memory_order_relaxed);
  return fetchers_[turn % fetchers_.size()]->jobs.Push(std::move(job));
}

bool RemoteMover::TryLookUp(RemoteLookup&& lookup) { return lookups_.Push(std::move(lookup)); }

void RemoteMover::Stop() {
  stopping_.store(true, std::memory_order_relaxed);
  sends_.Close();
  lookups_.Close();
  for (const std::unique_ptr<Fetcher>& fetcher : fetchers_) fetcher->jobs.Close();
  if (copier_.joinable()) copier_.join();
  outgoing_.Close();  // nobody fills it any more
  if (sender_.joinable()) sender_.join();
  if (asker_.joinable()) asker_.join();
  for (const std::unique_ptr<Fetcher>& fetcher : fetchers_) {
    if (fetcher->thread.joinable()) fetcher->thread.join();
  }
}

void RemoteMover::CopyOut() {
  std::vector<MoveJob> jobs;
  while (sends_.WaitTakeAll(jobs)) {
    for (const MoveJob& job : jobs) {
      absl::StatusOr<RemoteRecord> record = stopping() ? Stopped() : Encode(job);
      if (!record.ok()) {
        num_sends_.fetch_sub(1, std::memory_order_relaxed);
        on_done_({.id = job.id, .status = record.status()});
        continue;
      }
      on_done_({.id = job.id, .read = true});
      CHECK(outgoing_.Push({.id = job.id, .record = *std::move(record)}));  // sized for all
    }
    jobs.clear();
  }
}

absl::StatusOr<RemoteRecord> RemoteMover::Encode(const MoveJob& job) {
  std::span<std::byte> bytes = device_.HostView(job.block);
  if (bytes.empty()) {
    bytes = copy_staging_.Place(0);
    if (bytes.empty()) return BlockStaging::NoMemory();
    if (absl::Status copied = device_.CopyOut(job.block, bytes); !copied.ok()) return copied;
  }
  return tier_.Encode(job.identity, bytes);
}

void RemoteMover::Send() {
  std::vector<Outgoing> waiting;
  std::vector<RemoteRecord> records;
  const auto batch_blocks = static_cast<size_t>(options_.batch_blocks);
  while (outgoing_.WaitTakeAll(waiting)) {
    for (size_t first = 0; first < waiting.size(); first += batch_blocks) {
      const std::span<Outgoing> batch =
          std::span(waiting).subspan(first, std::min(batch_blocks, waiting.size() - first));
      records.clear();
      for (Outgoing& one : batch) records.push_back(std::move(one.record));
      if (stopping()) {
        for (RemoteRecord& record : records) record.status = Stopped();
      } else {
        tier_.Put(records);
      }
      for (size_t i = 0; i < batch.size(); ++i) {
        // Before the answer, so that who was answered can submit the next.
        num_sends_.fetch_sub(1, std::memory_order_relaxed);
        on_done_({.id = batch[i].id, .status = std::move(records[i].status)});
      }
    }
    waiting.clear();
    records.clear();
  }
}

void RemoteMover::FetchAll(Fetcher& fetcher) {
  std::vector<MoveJob> waiting;
  const auto batch_blocks = static_cast<size_t>(options_.batch_blocks);
  while (fetcher.jobs.WaitTakeAll(waiting)) {
    for (size_t first = 0; first < waiting.size(); first += batch_blocks) {
      FetchBatch(std::span(waiting).subspan(first, std::min(batch_blocks, waiting.size() - first)),
                 fetcher);
    }
    waiting.clear();
  }
}

void RemoteMover::FetchBatch(std::span<const MoveJob> jobs, Fetcher& fetcher) {
  std::vector<absl::Status> statuses(jobs.size(), Stopped());
  if (!stopping()) {
    RestoreToDevice(
        jobs, device_, fetcher.staging,
        [this](std::span<TierTransfer> transfers) { tier_.Fetch(transfers); }, statuses);
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    on_done_({.id = jobs[i].id, .status = std::move(statuses[i])});
  }
}

void RemoteMover::Ask() {
  std::vector<RemoteLookup> lookups;
  while (lookups_.WaitTakeAll(lookups)) {
    for (const RemoteLookup& lookup : lookups) {
      if (stopping()) {
        on_found_({.id = lookup.id, .status = Stopped()});
      } else {
        on_found_(LookUp(lookup));
      }
    }
    lookups.clear();
  }
}

RemoteFound RemoteMover::LookUp(const RemoteLookup& lookup) {
  RemoteFound found{.id = lookup.id};
  const std::span<const TokenId> tokens(lookup.tokens);
  for (size_t i = 0; i + kBlockTokens <= tokens.size(); i += kBlockTokens) {
    const BlockDigest& parent = found.digests.empty() ? lookup.parent : found.digests.back();
    found.digests.push_back(NextDigest(parent, tokens.subspan(i).first<kBlockTokens>()));
  }
  const absl::StatusOr<std::vector<bool>> there = tier_.Contains(found.digests);
  size_t num_found = 0;
  if (there.ok()) {
    while (num_found < there->size() && (*there)[num_found]) ++num_found;
  } else {
    found.status = there.status();
  }
  found.digests.resize(num_found);
  return found;
}

}  // namespace holdfast
