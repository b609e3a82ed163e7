#include "server/replay.h"

#include <atomic>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/endpoint.h"
#include "grpcpp/grpcpp.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "server/progress_bar.h"
#include "server/stop_signals.h"
#include "server/turns_file.h"
#include "server/workload_arguments.h"
#include "simulator/simulation_report.h"
#include "workload/token_runs.h"
#include "workload/workload_file.h"

namespace holdfast {
namespace {

constexpr char kServerDefault[] = "127.0.0.1:50051";
constexpr std::chrono::seconds kConnectTime{10};

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || !text) return absl::NotFoundError(Concat(path, ": cannot be read"));
  return std::move(text).str();
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectTo(const ReplayTarget& target) {
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (!target.tls_ca.empty()) {
    ASSIGN_OR_RETURN(const std::string roots, ReadFile(target.tls_ca));
    credentials = grpc::SslCredentials({.pem_root_certs = roots});
  }
  return grpc::CreateChannel(target.address, credentials);
}

// Whom the server serves, which also tells whether it is there.
absl::StatusOr<v1::Model> ModelOf(v1::Generation::Stub& stub, const std::string& address,
                                  const std::string& key) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kConnectTime);
  context.set_wait_for_ready(true);
  if (!key.empty()) context.AddMetadata("authorization", Concat("Bearer ", key));
  v1::ListModelsResponse models;
  const grpc::Status status = stub.ListModels(&context, {}, &models);
  if (!status.ok()) {
    return absl::UnavailableError(Concat(address, ": wanted a holdfast server's gRPC port; asking ",
                                         "for its models failed: ", status.error_message()));
  }
  if (models.models_size() == 0) return absl::UnavailableError(Concat(address, ": no model"));
  return models.models(0);
}

}  // namespace

absl::StatusOr<ReplayTarget> ReplayTargetOf(const CommandLine& line) {
  const VerbArguments arguments(line);
  ReplayTarget target{.address = arguments.Text("--server"), .tls_ca = arguments.Text("--tls-ca")};
  if (target.address.empty()) target.address = kServerDefault;
  const auto endpoint = ParseEndpoint(target.address);
  const bool is_loopback = endpoint.ok() && endpoint->is_loopback;
  if (is_loopback || arguments.Find("--allow-remote") != nullptr) return target;
  return absl::InvalidArgumentError(
      Concat("--server: ", target.address,
             " is not on this machine; a replay is a load: add --allow-remote if it may bear it"));
}

absl::StatusOr<std::vector<std::string>> ParseKeys(std::string_view text,
                                                   const std::vector<std::string>& tenants) {
  std::map<std::string, std::string, std::less<>> keys;
  std::istringstream lines{std::string(text)};
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::istringstream words(line.substr(0, line.find('#')));
    std::string tenant, key, more;
    if (!(words >> tenant)) continue;
    if (!(words >> key) || words >> more) {
      return absl::InvalidArgumentError(Concat("line ", number, ": wanted TENANT KEY"));
    }
    keys[tenant] = key;
  }
  std::vector<std::string> by_tenant;
  for (const std::string& tenant : tenants) {
    auto found = keys.find(tenant);
    if (found == keys.end()) found = keys.find("*");
    if (found == keys.end()) {
      return absl::InvalidArgumentError(
          Concat("no key for tenant ", tenant, "; wanted a line for it, or one for `*`"));
    }
    by_tenant.push_back(found->second);
  }
  return by_tenant;
}

absl::StatusOr<ReplayOptions> ReplayOptionsOf(const CommandLine& line, const Workload& workload) {
  VerbArguments arguments(line);
  ReplayOptions options;
  arguments.Count("--in-flight-max", 1, options.in_flight_max);
  arguments.Count("--priority", std::numeric_limits<int32_t>::min(), options.priority);
  options.timeout = arguments.Time("--timeout").value_or(options.timeout);
  options.retain = arguments.Time("--retain");
  options.slo = SloOf(arguments);
  if (!arguments.status().ok()) return arguments.status();
  if (const std::string path = arguments.Text("--keys"); !path.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    auto keys = ParseKeys(text, workload.tenants);
    if (!keys.ok()) return absl::InvalidArgumentError(Concat(path, ": ", keys.status().message()));
    options.keys = *std::move(keys);
  }
  return options;
}

absl::Status RunReplay(const CommandLine& line) {
  const VerbArguments arguments(line);
  ASSIGN_OR_RETURN(const WorkloadOptions workload_options, WorkloadOptionsOf(line));
  ASSIGN_OR_RETURN(const ReplayTarget target, ReplayTargetOf(line));
  ASSIGN_OR_RETURN(const Workload workload,
                   ReadWorkload(arguments.Text("--workload"), workload_options));
  ASSIGN_OR_RETURN(const ReplayOptions options, ReplayOptionsOf(line, workload));
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, ConnectTo(target));
  const std::unique_ptr<v1::Generation::Stub> stub = v1::Generation::NewStub(channel);
  ASSIGN_OR_RETURN(const v1::Model model,
                   ModelOf(*stub, target.address, options.keys.empty() ? "" : options.keys[0]));
  ASSIGN_OR_RETURN(const TokenRuns tokens, TokenRuns::Make({.seed = workload_options.seed,
                                                            .vocabulary = model.vocab_size()}));

  TurnsFile turns(arguments.Text("--turns-out"));
  ReplayClient client(workload, options, tokens, *stub,
                      [&turns](const TurnRecord& turn) { turns.Add(turn); });
  std::optional<Tally> tally;
  {
    std::atomic<bool> stop{false};
    const StopSignals signals([&stop](int) { stop = true; });
    ProgressBar bar("replay");
    tally = client.Run(stop, [&bar](double share) { bar.Show(share); });
  }
  RETURN_IF_ERROR(turns.Close());
  const ReplayFacts facts{.server = target.address,
                          .model = model.name(),
                          .seed = workload_options.seed,
                          .in_flight_max = options.in_flight_max,
                          .retain = options.retain,
                          .slo = options.slo,
                          .cut_short = client.cut_short(),
                          .errors = client.errors(),
                          .send_delay = client.send_delay()};
  return WriteReport(arguments.Text("--out"), FormatReplayReport(workload, facts, *tally));
}

}  // namespace holdfast
