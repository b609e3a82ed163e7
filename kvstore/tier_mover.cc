#include "kvstore/tier_mover.h"

#include <algorithm>
#include <utility>

#include "config/base/check.h"

namespace holdfast {
namespace {

// Jobs that one Put or Fetch can take together.
bool GoTogether(const MoveJob& a, const MoveJob& b) {
  return a.kind == b.kind && a.tier == b.tier && a.gate == b.gate &&
         (a.kind != MoveKind::kDemote || a.lower_tier == b.lower_tier);
}

}  // namespace

TierMover::TierMover(BlockMover& device, std::span<Tier* const> tiers,
                     const TierMoverOptions& options, std::function<void(MoveDone&&)> on_done,
                     std::function<void()> on_layers)
    : options_(options),
      device_(device),
      on_done_(std::move(on_done)),
      on_layers_(std::move(on_layers)) {
  CHECK(options.block_bytes > 0 && options.jobs_max > 0 && options.batch_blocks > 0);
  for (Tier* tier : tiers) {
    Tier*& place = tiers_.at(static_cast<size_t>(tier->kind()));
    CHECK(place == nullptr);
    place = tier;
  }
  const std::array<int32_t, kNumLanes> threads = {
      options.host_restore_threads, options.disk_restore_threads, options.offload_threads};
  for (size_t lane = 0; lane < kNumLanes; ++lane) {
    CHECK(threads[lane] > 0);
    for (int32_t i = 0; i < threads[lane]; ++i) {
      lanes_[lane].workers.push_back(std::make_unique<Worker>(options));
    }
  }
  for (Lane& lane : lanes_) {
    for (const std::unique_ptr<Worker>& worker : lane.workers) {
      worker->thread = std::thread([this, &worker = *worker] { Work(worker); });
    }
  }
}

TierMover::~TierMover() { Stop(); }

TierMover::LaneIndex TierMover::LaneOf(const MoveJob& job) {
  if (job.kind != MoveKind::kRestore) return kOffload;
  return job.tier == TierKind::kHost ? kHostRestore : kDiskRestore;
}

TierMover::Worker& TierMover::WorkerFor(const MoveJob& job) {
  Lane& lane = lanes_[LaneOf(job)];
  const uint32_t turn = job.gate != nullptr ? static_cast<uint32_t>(job.gate->number())
                                            : lane.next.fetch_add(1, std::memory_order_relaxed);
  return *lane.workers[turn % lane.workers.size()];
}

bool TierMover::TrySubmit(MoveJob&& job) {
  if (under_way_.fetch_add(1, std::memory_order_relaxed) >= options_.jobs_max) {
    under_way_.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  job.device_losses = device_losses_.load(std::memory_order_relaxed);
  if (WorkerFor(job).jobs.Push(std::move(job))) return true;
  under_way_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void TierMover::Stop() {
  stopping_.store(true, std::memory_order_relaxed);
  for (Lane& lane : lanes_) {
    for (const std::unique_ptr<Worker>& worker : lane.workers) worker->jobs.Close();
  }
  for (Lane& lane : lanes_) {
    for (const std::unique_ptr<Worker>& worker : lane.workers) {
      if (worker->thread.joinable()) worker->thread.join();
    }
  }
}

bool TierMover::TakeBatch(std::vector<MoveJob>& waiting, std::vector<MoveJob>& batch) const {
  const MoveJob oldest = waiting.front();
  const auto goes = [&](const MoveJob& job) { return GoTogether(oldest, job); };
  auto left = static_cast<size_t>(options_.batch_blocks);
  if (oldest.gate != nullptr) {
    left = static_cast<size_t>(oldest.gate->num_blocks());
    if (static_cast<size_t>(std::ranges::count_if(waiting, goes)) < left) return false;
  }
  std::erase_if(waiting, [&](const MoveJob& job) {
    if (left == 0 || !goes(job)) return false;
    batch.push_back(job);
    --left;
    return true;
  });
  return true;
}

// Oldest first.
void TierMover::Work(Worker& worker) {
  std::vector<MoveJob> waiting, batch;
  while (worker.jobs.WaitTakeAll(waiting)) {
    while (!waiting.empty()) {
      if (stopping_.load(std::memory_order_relaxed)) {
        Cancel(waiting);
        waiting.clear();
      } else {
        if (!TakeBatch(waiting, batch)) break;
        RunBatch(batch, worker);
        batch.clear();
      }
      worker.jobs.TakeAll(waiting);  // what came meanwhile may go with what waits
    }
  }
  Cancel(waiting);  // the rest of what they waited for will not come
}

void TierMover::Cancel(std::span<const MoveJob> jobs) {
  for (const MoveJob& job : jobs) {
    if (job.gate != nullptr && !job.gate->ended()) job.gate->Fail();
  }
  for (const MoveJob& job : jobs) Answer(job, absl::CancelledError("the daemon stops"));
}

void TierMover::RunBatch(std::span<MoveJob> jobs, Worker& worker) {
  std::vector<absl::Status> statuses(jobs.size());
  if (jobs.front().gate != nullptr) {
    RestoreBehindGate(jobs, *jobs.front().gate, worker, statuses);
    return;
  }
  switch (jobs.front().kind) {
    case MoveKind::kOffload:
      Offload(jobs, worker, statuses);
      break;
    case MoveKind::kRestore:
      Restore(jobs, worker, statuses);
      break;
    case MoveKind::kDemote:
      Demote(jobs, worker, statuses);
      break;
    case MoveKind::kSend:
      CHECK(false);  // the remote mover's
  }
  for (size_t i = 0; i < jobs.size(); ++i) Answer(jobs[i], std::move(statuses[i]));
}

void TierMover::Answer(const MoveJob& job, absl::Status status) {
  // Before the answer, so that who was answered can submit the next.
  under_way_.fetch_sub(1, std::memory_order_relaxed);
  on_done_({.id = job.id, .status = std::move(status)});
}

Tier& TierMover::TierOf(TierKind kind) {
  Tier* tier = tiers_.at(static_cast<size_t>(kind));
  CHECK(tier != nullptr);  // the store names only tiers that it was given
  return *tier;
}

void TierMover::Offload(std::span<MoveJob> jobs, Worker& worker, std::span<absl::Status> statuses) {
  std::vector<TierTransfer> transfers;
  std::vector<size_t> whose;
  for (size_t i = 0; i < jobs.size(); ++i) {
    std::span<std::byte> bytes = device_.HostView(jobs[i].block);
    if (bytes.empty()) {
      bytes = worker.staging.Place(i);
      statuses[i] =
          bytes.empty() ? BlockStaging::NoMemory() : device_.CopyOut(jobs[i].block, bytes);
      if (!statuses[i].ok()) continue;
    }
    if (jobs[i].device_losses != device_losses_.load(std::memory_order_relaxed)) {
      statuses[i] = absl::CancelledError("the device lost what was to be copied");
      continue;
    }
    transfers.push_back({.slot = jobs[i].slot, .identity = &jobs[i].identity, .bytes = bytes});
    whose.push_back(i);
  }
  if (!transfers.empty()) TierOf(jobs.front().tier).Put(transfers);
  for (size_t k = 0; k < whose.size(); ++k) statuses[whose[k]] = std::move(transfers[k].status);
}

void TierMover::Restore(std::span<MoveJob> jobs, Worker& worker, std::span<absl::Status> statuses) {
  Tier& tier = TierOf(jobs.front().tier);
  RestoreToDevice(
      jobs, device_, worker.staging,
      [&](std::span<TierTransfer> transfers) { tier.Fetch(transfers); }, statuses);
}

// Whatever becomes of the blocks, the gate ends.
void TierMover::RestoreBehindGate(std::span<MoveJob> jobs, LayerGate& gate, Worker& worker,
                                  std::span<absl::Status> statuses) {
  if (!device_.HostView(jobs.front().block).empty()) {
    RestoreByLayers(jobs, gate, statuses);
  } else {
    const auto staged = static_cast<size_t>(options_.batch_blocks);
    for (size_t begin = 0; begin < jobs.size(); begin += staged) {
      const size_t count = std::min(staged, jobs.size() - begin);
      Restore(jobs.subspan(begin, count), worker, statuses.subspan(begin, count));
    }
    if (!std::ranges::all_of(statuses, &absl::Status::ok)) gate.Fail();
  }
  const bool failed = gate.failed();
  for (size_t i = 0; i < jobs.size(); ++i) Answer(jobs[i], std::move(statuses[i]));
  if (!failed) gate.Open(gate.num_layers());  // if it failed, it may have been armed again
}

// Opens the gate for all but the last layer.
void TierMover::RestoreByLayers(std::span<MoveJob> jobs, LayerGate& gate,
                                std::span<absl::Status> statuses) {
  std::vector<TierTransfer> transfers;
  for (const MoveJob& job : jobs) {
    transfers.push_back(
        {.slot = job.slot, .identity = &job.identity, .bytes = device_.HostView(job.block)});
  }
  Tier& tier = TierOf(jobs.front().tier);
  const int32_t num_layers = tier.num_layers();
  CHECK(num_layers == gate.num_layers());
  const auto is_ok = [](const TierTransfer& transfer) { return transfer.status.ok(); };
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    tier.FetchLayer(transfers, layer);
    if (gate.failed()) continue;  // the other blocks come all the same
    if (!std::ranges::all_of(transfers, is_ok)) {
      gate.Fail();
    } else if (layer + 1 < num_layers) {
      gate.Open(layer + 1);
      if (on_layers_ && (layer == 0 || layer + 1 == gate.num_half())) on_layers_();
    }
  }
  for (size_t i = 0; i < jobs.size(); ++i) statuses[i] = std::move(transfers[i].status);
}

void TierMover::Demote(std::span<MoveJob> jobs, Worker& worker, std::span<absl::Status> statuses) {
  std::vector<TierTransfer> transfers;
  std::vector<size_t> whose;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const std::span<std::byte> bytes = worker.staging.Place(i);
    if (bytes.empty()) {
      statuses[i] = BlockStaging::NoMemory();
      continue;
    }
    transfers.push_back({.slot = jobs[i].slot, .identity = &jobs[i].identity, .bytes = bytes});
    whose.push_back(i);
  }
  if (!transfers.empty()) TierOf(jobs.front().tier).Fetch(transfers);
  std::vector<TierTransfer> fetched;
  std::vector<size_t> whose_fetched;
  for (size_t k = 0; k < whose.size(); ++k) {
    const size_t i = whose[k];
    statuses[i] = std::move(transfers[k].status);
    if (!statuses[i].ok()) continue;
    fetched.push_back(
        {.slot = jobs[i].lower_slot, .identity = &jobs[i].identity, .bytes = transfers[k].bytes});
    whose_fetched.push_back(i);
  }
  if (!fetched.empty()) TierOf(jobs.front().lower_tier).Put(fetched);
  for (size_t k = 0; k < fetched.size(); ++k) {
    statuses[whose_fetched[k]] = std::move(fetched[k].status);
  }
}

}  // namespace holdfast
