// Serves a trace in simulated time: scheduler, store and tiers as in the daemon, an engine whose
// answers betray every wrong byte of KV, media and a mover that go wrong as the seed wants it, and
// clients that cancel, stop, come back and try again. Steps take time; what arrives, moves and
// fails meanwhile happens in between.
//
// Looked at after every event: the invariants of scheduler and store; that moves add up; that no
// sequence has read KV of another scope or of nobody. After every kContentEvery-th, as it is dear:
// that each findable block of the device holds, byte for byte, what its name says. At the end of a
// life (a daemon's, from start to kill or stop): that hits are explained by what was said in the
// same scope, and that the metrics add up.
//
// Failures are GoogleTest's, or stop the process where the code itself checks.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "kvstore/disk_tier.h"
#include "kvstore/host_tier.h"
#include "tests/sim/agent_trace.h"
#include "tests/sim/faulty_tier.h"
#include "tests/sim/record_disk.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/sim/timed_mover.h"
#include "tests/unit/kvstore/test_directory.h"

namespace holdfast {

inline constexpr size_t kSimBlockBytes = kBlockTokens * sizeof(uint64_t);  // of FakeEngine
inline std::vector<TokenId> Joined(std::vector<TokenId> first, const std::vector<TokenId>& then) {
  first.insert(first.end(), then.begin(), then.end());
  return first;
}

// How a trace is served. One in so many; 0: never.
struct Circumstances {
  FakeEngineOptions engine;
  SchedulerOptions scheduler;
  int32_t host_slots = 0, disk_slots = 0;
  TierFaults host_faults, disk_faults;
  MoverTimes moves;
  bool real_disk = false;          // files in a directory, with about disk_slots blocks
  bool clients_interfere = false;  // they cancel, stop choices and drop pins
  uint32_t step_fails = 0;         // steps
  uint32_t clock_jumps = 0;        // events
  uint32_t killed = 0;             // events
};
// Tiny pools and tiers, and whichever faults the seed draws.
Circumstances DrawCircumstances(uint32_t seed, const AgentTrace& trace);
// All at once, with room for all and no cache.
Circumstances WithoutCache(const AgentTrace& trace);

// What has happened, so that a test can say that what it is about did.
struct WorldTotals {
  uint64_t events = 0, requests = 0, done_ok = 0, cancelled = 0, cancelled_amid_moves = 0;
  uint64_t stopped = 0, steps_failed = 0, clock_jumps = 0, kills = 0, adopted = 0;
  uint64_t planned_ahead = 0;
  uint64_t preemptions = 0, pins_continued = 0, copies = 0, damaged = 0, found_out = 0;
  std::array<uint64_t, 3> hit_tokens{};
  std::array<uint64_t, 3> moves_done{}, moves_failed{};
  uint64_t restores_cut = 0, dropped_without_copy = 0, blocks_duplicate = 0;
};

class ServingWorld final {
 public:
  struct Turn {
    size_t agent = 0, turn = 0;
    auto operator<=>(const Turn&) const = default;
  };
  // What a client that asked a turn has heard. Several, where it asked again.
  struct Attempt {
    Request request;
    RecordedRequest heard;
    bool stopped = false;  // it wanted no more of some choice
  };

  ServingWorld(const AgentTrace& trace, const Circumstances& how, uint32_t seed);

  void Run();  // until every agent has what it wants, or has given up

  const std::map<Turn, std::vector<Attempt>>& attempts() const { return attempts_; }
  const WorldTotals& totals() const { return totals_; }

 private:
  struct Live {
    Turn turn;
    size_t attempt = 0;
  };
  struct Client {  // of one agent
    size_t turn = 0;
    int32_t tries = 0;  // of this turn
    std::vector<TokenId> history;
    bool over = false;
  };
  struct Event {
    std::optional<size_t> submits;  // an agent
    std::optional<RequestId> cancels;
  };

  bool Happens(uint32_t one_in) { return one_in != 0 && rng_() % one_in == 0; }
  absl::Time Clock() const { return time_ + skew_; }

  // A life.
  void Start();
  std::vector<RecoveredBlock> OpenDisk();
  void Scratch();
  void EndLife();
  void Kill();
  void CheckHits();
  void CheckMetrics();

  // Events.
  bool HandleNext();
  void Submit(size_t agent);
  void Cancel(RequestId request);
  void EndStep();
  void FinishMove();
  void Interfere();
  void StartStep();
  void PlanAhead();
  void RunStep();
  void HandOutMoves();

  void HearDone();
  void AskAgain(size_t agent);
  void Check();
  void CheckContent();
  void CheckNothingLeaks();

  const AgentTrace& trace_;
  const Circumstances how_;
  std::mt19937 rng_;
  absl::Time time_ = absl::UnixEpoch() + absl::Hours(1000);
  absl::Duration skew_;
  std::multimap<absl::Time, Event> events_;
  std::vector<Client> clients_;
  std::map<Turn, std::vector<Attempt>> attempts_;
  std::map<ReuseScope, uint8_t> marks_;
  uint64_t next_request_ = 1;

  // One of the two, or none; what is on them outlives lives.
  std::unique_ptr<RecordDisk> disk_medium_;
  std::unique_ptr<TestDirectory> directory_;
  std::unique_ptr<DiskTier> real_disk_;
  std::unique_ptr<FaultyTier> disk_;

  // Of this life.
  std::unique_ptr<HostTier> host_medium_;
  std::unique_ptr<FaultyTier> host_;
  std::unique_ptr<SchedulerBench> bench_;
  std::unique_ptr<TimedMover> mover_;
  std::map<RequestId, Live> live_;  // not done
  std::vector<std::pair<RequestId, Live>> asked_;
  size_t num_heard_ = 0;  // of bench_->sink.order_done()
  std::vector<MoveJob> jobs_;
  std::optional<absl::Time> step_ends_;
  absl::Status step_status_;
  bool step_executed_ = false;
  bool next_planned_ = false;  // while the step runs

  WorldTotals totals_;
};

}  // namespace holdfast
