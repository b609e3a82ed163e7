// Fires a workload at a live server, by the schedule whatever the server does:
//
//   due ──(room in flight)──► sent ──► reading ──► done, refused or failed ──► the next turn is due
//    ▲                                                                              │
//    └──────────── program starts; and `after` the end of the turn before ◄─────────┘
//
// Open loop between programs: they start when the workload says, and a turn's times count from when
// it was due, so that a server (or a client) that falls behind cannot hide it. Closed loop inside a
// program: its next turn holds the tokens that the server really answered with.
//
// Tokens go out and come back by Generate: no tokenizer is between the workload and the engine.
// Draws are greedy and do not stop at end tokens.
//
// One thread does all, and sleeps in the completion queue in between: it stands beside the server
// on the same cores in most of what is measured with it.
//
// Bound: in_flight_max requests; the workload's programs; tokens of those between first and last
// turn.
// Source: coordinated omission, Gil Tene, "How NOT to Measure Latency".
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "grpcpp/grpcpp.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "simulator/duration_histogram.h"
#include "simulator/tally.h"
#include "workload/token_runs.h"
#include "workload/workload.h"

namespace holdfast {

struct ReplayOptions {
  int32_t in_flight_max = 1024;
  absl::Duration timeout = absl::Hours(1);  // then what is not over is cut short
  std::optional<absl::Duration> retain;     // asked for by every turn but a program's last
  int32_t priority = 0;
  std::vector<std::string> keys;  // by the workload's index of tenants; empty: none is sent
  Slo slo;
};

class ReplayClient final {
 public:
  // Hears of each turn when it is over.
  using TurnListener = std::function<void(const TurnRecord&)>;

  // All outlive the client.
  ReplayClient(const Workload& workload, const ReplayOptions& options, const TokenRuns& tokens,
               v1::Generation::StubInterface& stub, TurnListener listener = nullptr);
  ~ReplayClient();
  ReplayClient(const ReplayClient&) = delete;

  // Once. Returns when every turn is over: after the last one, at the timeout, or soon after `stop`
  // is set. `progress` hears the share of turns that are over, twenty times a second or more.
  Tally Run(const std::atomic<bool>& stop, const std::function<void(double)>& progress);

  bool cut_short() const { return cut_short_; }
  // Of turns refused and failed, by the name of their status; "CUT_SHORT" of those in flight then.
  const std::map<std::string, int64_t>& errors() const { return errors_; }
  const DurationHistogram& send_delay() const { return send_delay_; }

 private:
  struct Program {
    int32_t turn = 0;
    std::vector<TokenId> tokens;  // prompt and completion of the turn at work, or of the last
  };
  struct Due {
    int64_t nanos = 0;
    int32_t program = 0;
    bool operator>(const Due& other) const {
      return nanos != other.nanos ? nanos > other.nanos : program > other.program;
    }
  };
  struct Call;

  int64_t NowNanos() const;  // since the replay began
  void SendDue();
  void Send(const Due& due);
  v1::GenerateRequest MakeRequest(int32_t program, TurnRecord& record);
  void WaitForEvent();
  void OnEvent(Call& call, bool ok);
  void OnChunk(Call& call);
  void OnEnd(Call& call);
  void EndTurn(const TurnRecord& record);
  void Abandon(int32_t program);
  void Note(const TurnRecord& record);
  void CutShort();
  // Of a name that travels as UTF-8 text of bounded length; what does not fit becomes another.
  std::string SessionOf(int32_t program) const;

  const Workload& workload_;
  const ReplayOptions& options_;
  const TokenRuns& tokens_;
  v1::Generation::StubInterface& stub_;
  const TurnListener listener_;

  grpc::CompletionQueue queue_;
  absl::Time begin_;
  std::vector<Program> programs_;  // as the workload's
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  absl::flat_hash_map<Call*, std::unique_ptr<Call>> calls_;
  bool cut_short_ = false;
  int64_t turns_ended_ = 0;
  Tally tally_;
  std::map<std::string, int64_t> errors_;
  DurationHistogram send_delay_;
};

}  // namespace holdfast
