#include "server/serving_measurement.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "config/base/clock.h"
#include "config/base/concat.h"
#include "config/base/metrics.h"
#include "config/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "kvstore/kv_store.h"
#include "scheduler/scheduler_loop.h"
#include "server/generation_service.h"
#include "server/grpc_server.h"
#include "server/replay_client.h"
#include "server/tenant_auth.h"
#include "simulator/simulated_engine.h"
#include "workload/token_runs.h"

namespace holdfast {
namespace {

constexpr int32_t kStreams = 4, kTokens = 250;
constexpr absl::Duration kStep = absl::Milliseconds(6);

// Waits as long as a step takes: tokens that came faster would leave several in one message.
class WaitingEngine final : public Engine {
 public:
  explicit WaitingEngine(const EngineInfo& info) : instant_(info, 1) {}
  const EngineInfo& info() const override { return instant_.info(); }
  absl::Status Execute(const StepPlan& plan, StepResult& result) override {
    absl::SleepFor(kStep);
    return instant_.Execute(plan, result);
  }

 private:
  SimulatedEngine instant_;
};

absl::Duration ProcessorTime() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return absl::DurationFromTimeval(usage.ru_utime) + absl::DurationFromTimeval(usage.ru_stime);
}

Workload Streams(int32_t tokens) {
  Workload workload{.name = "streams", .tenants = {"default"}};
  for (int32_t i = 0; i < kStreams; ++i) {
    WorkloadProgram program;
    program.turns.push_back(
        {.runs = {{.id = static_cast<uint64_t>(i), .num_tokens = 8}}, .completion_tokens = tokens});
    workload.programs.push_back(std::move(program));
  }
  return workload;
}

// The daemon's parts from the port to the scheduler.
class ServingParts {
 public:
  static absl::StatusOr<std::unique_ptr<ServingParts>> Create(const EngineInfo& info,
                                                              const Tokenizer& tokenizer) {
    std::unique_ptr<ServingParts> parts(new ServingParts(info, tokenizer));
    ASSIGN_OR_RETURN(parts->loop_, SchedulerLoop::Create(parts->engine_, {.running_max = kStreams},
                                                         parts->metrics_, *parts->service_));
    parts->service_->Connect(PortTo(*parts->loop_));
    ASSIGN_OR_RETURN(parts->auth_, TenantAuth::Create({}));
    ASSIGN_OR_RETURN(parts->grpc_,
                     GrpcServer::Create({.address = "127.0.0.1:0"}, *parts->service_, *parts->auth_,
                                        [] { return Readiness::kReady; }));
    return parts;
  }
  ~ServingParts() {
    if (grpc_) grpc_->Shutdown(absl::InfinitePast());
    if (loop_) loop_->Stop();
    service_->Shutdown();
  }
  int port() const { return grpc_->port(); }

 private:
  ServingParts(const EngineInfo& info, const Tokenizer& tokenizer) : engine_(info) {
    GenerationServiceOptions options;
    options.model = {.name = "measured", .context_tokens = info.context_tokens};
    options.model.vocab_size = info.vocab_size;
    service_ =
        std::make_unique<SchedulerGenerationService>(options, tokenizer, nullptr, clock_, metrics_);
  }

  WaitingEngine engine_;
  SteadyClock clock_;
  MetricsRegistry metrics_;
  std::unique_ptr<SchedulerGenerationService> service_;
  std::unique_ptr<SchedulerLoop> loop_;
  std::unique_ptr<TenantAuth> auth_;
  std::unique_ptr<GrpcServer> grpc_;
};

}  // namespace

absl::StatusOr<absl::Duration> MeasureTokenServing(const EngineInfo& engine,
                                                   const Tokenizer& tokenizer) {
  EngineInfo info = engine;
  info.num_sequence_slots = std::max(info.num_sequence_slots, kStreams);
  info.context_tokens = std::max(info.context_tokens, kTokens + 32);
  info.num_blocks = std::max(info.num_blocks, kStreams * BlocksFor(info.context_tokens));
  ASSIGN_OR_RETURN(const std::unique_ptr<ServingParts> parts,
                   ServingParts::Create(info, tokenizer));
  const std::unique_ptr<v1::Generation::Stub> stub = v1::Generation::NewStub(
      grpc::CreateChannel(Concat("127.0.0.1:", parts->port()), grpc::InsecureChannelCredentials()));
  ASSIGN_OR_RETURN(const TokenRuns tokens, TokenRuns::Make({.vocabulary = info.vocab_size}));
  const std::atomic<bool> stop{false};
  absl::Duration spent;
  for (const int32_t count : {8, kTokens}) {  // the first one connects
    const Workload workload = Streams(count);
    const ReplayOptions options{.timeout = absl::Minutes(1)};
    ReplayClient client(workload, options, tokens, *stub);
    const absl::Duration before = ProcessorTime();
    const Tally tally = client.Run(stop, nullptr);
    spent = ProcessorTime() - before;
    if (tally.tenants[0].turns_done != kStreams) {
      return absl::InternalError("streams of the measurement failed");
    }
  }
  return spent / (kStreams * kTokens);
}

}  // namespace holdfast
