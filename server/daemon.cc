#include "server/daemon.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/base/concat.h"
#include "config/base/metrics.h"
#include "config/base/status_macros.h"
#include "engine/cpu_block_mover.h"
#include "engine/cpu_engine.h"
#include "engine/weights.h"
#include "scheduler/scheduler_loop.h"
#include "server/admin.h"
#include "server/admin_auth.h"
#include "server/audit_log.h"
#include "server/background_service.h"
#include "server/config_reload.h"
#include "server/engine_options.h"
#include "server/free_memory.h"
#include "server/generation_service.h"
#include "server/grpc_server.h"
#include "server/heap_trim.h"
#include "server/http_server.h"
#include "server/kv_event_publisher.h"
#include "server/kv_tiers.h"
#include "server/library_log.h"
#include "server/loading_service.h"
#include "server/log.h"
#include "server/model_text.h"
#include "server/reasoning.h"
#include "server/request_spans.h"
#include "server/scheduler_settings.h"
#include "server/stop_signals.h"
#include "server/tenant_auth.h"
#include "server/tracer.h"
#include "server/ui_files.h"
#include "server/usage_report.h"
#include "server/usage_service.h"
#include "text/text.h"

namespace holdfast {
namespace {

// After the drain's end: time for cancelled streams to tell their clients.
constexpr absl::Duration kFarewell = absl::Seconds(1);

// While the engine fails: how often to look whether it is taken to have recovered, which is a
// matter of time and comes without an event.
constexpr absl::Duration kRecoveryPoll = absl::Milliseconds(250);

// ---- The model's names and words ---------------------------------------------------------------

// "SmolLM2-135M-Instruct" of ".../SmolLM2-135M-Instruct.Q4_1.gguf": what a GGUF file's metadata
// call the model is often the name of a training run, the file's name is what people use.
std::string NameFromPath(const std::string& path) {
  std::filesystem::path file = std::filesystem::path(path).lexically_normal();
  if (!file.has_filename()) file = file.parent_path();
  std::string name = file.filename().string();
  if (name.ends_with(".gguf")) {
    name.resize(name.size() - 5);
    const size_t dot = name.rfind('.');
    const std::string_view tail =
        dot == std::string::npos ? std::string_view() : std::string_view(name).substr(dot + 1);
    for (const std::string_view kind : {"Q", "IQ", "F16", "F32", "BF16"}) {
      if (tail.starts_with(kind)) {
        name.resize(dot);
        break;
      }
    }
  }
  return name.empty() ? "model" : name;
}

GenerationService::ModelInfo DescribeModel(const DaemonConfig& config, const LoadedModel& model) {
  GenerationService::ModelInfo info;
  info.name = config.model.name.empty() ? NameFromPath(config.model.path) : config.model.name;
  info.aliases = config.model.aliases;
  info.context_tokens =
      std::min(model.config.context_tokens,
               config.engine.context_tokens.value_or(model.config.context_tokens));
  info.vocab_size = model.config.vocab_size;
  info.embedding_size = model.config.hidden;
  // Without a word of the file mean: by docs/embeddings.md a model that was not trained to embed
  // does better so.
  info.pooling = model.config.pooling.value_or(Pooling::kMean);
  if (config.model.pooling != "auto") {
    info.pooling = config.model.pooling == "last" ? Pooling::kLast : Pooling::kMean;
  }
  info.matryoshka = config.model.matryoshka;
  std::error_code error;
  const auto written = std::filesystem::last_write_time(config.model.path, error);
  if (!error) {
    const auto since = std::chrono::file_clock::to_sys(written).time_since_epoch();
    info.created_unix = std::chrono::duration_cast<std::chrono::seconds>(since).count();
  }
  return info;
}

// ---- The daemon --------------------------------------------------------------------------------

// {"http":N,"grpc":N,"admin":N}, whole or not at all; 0: there is none.
absl::Status WritePortFile(const std::string& path, int http, int grpc, int admin) {
  const std::string scratch = Concat(path, ".", getpid());
  {
    std::ofstream file(scratch, std::ios::trunc);
    file << Concat("{\"http\":", http, ",\"grpc\":", grpc, ",\"admin\":", admin, "}\n");
    if (!file.flush()) {
      return absl::UnavailableError(Concat("the port file ", path, " cannot be written"));
    }
  }
  std::error_code error;
  std::filesystem::rename(scratch, path, error);
  if (error) return absl::UnavailableError(Concat("the port file ", path, " cannot be written"));
  return absl::OkStatus();
}

// Owns the parts. Members are declared so that what is used outlives its user: front ends go
// first, then the scheduler's threads, then the service that takes its events, then the engine.
class Daemon final {
 public:
  explicit Daemon(const DaemonOptions& options)
      : options_(options),
        config_(options.config),
        log_({.level = LogLevelOf(options.config.log.level),
              .format = options.config.log.format == "json" ? LogFormat::kJson : LogFormat::kText},
             wall_clock_) {
    metrics_.BoundLabel("tenant", static_cast<size_t>(config_.metrics.tenants_max));
    metrics_
        .AddGauge("holdfast_build_info", "1; what runs, as labels.", {{"version", options.version}})
        .Set(1);
    metrics_.AddGauge("process_start_time_seconds", "When the process began, since 1970.")
        .Set(absl::ToDoubleSeconds(wall_clock_.Now() - absl::UnixEpoch()));
  }
  ~Daemon() { StopParts(); }

  absl::Status Run() {
    StopSignals signals([this](int signal) { OnSignal(signal); });
    RETURN_IF_ERROR(OpenPorts());
    RETURN_IF_ERROR(LoadParts());
    RETURN_IF_ERROR(AnnounceReady());
    WaitForStop();
    ReloadIfAsked();  // to tell that it is too late
    GiveNotice();
    Drain();
    StopParts();
    log_.Info("stopped");
    return absl::OkStatus();
  }

 private:
  absl::Status OpenPorts() {
    const absl::Time began = SteadyNow();
    ASSIGN_OR_RETURN(model_, LoadModel(config_.model.path));
    began_ = began;
    if (config_.engine.context_tokens.value_or(0) > model_.config.context_tokens) {
      return absl::InvalidArgumentError(Concat("engine.context_tokens is ",
                                               *config_.engine.context_tokens, "; the model takes ",
                                               model_.config.context_tokens, "; set that or less"));
    }
    GenerationService::ModelInfo info = DescribeModel(config_, model_);
    ASSIGN_OR_RETURN(chat_, FindChatTemplate(model_.vocabulary, config_.model.chat_template));
    info.has_chat_template = !chat_.source.empty();
    info.tool_calls =
        ToolCallFormatOf(chat_.tool_use_source.empty() ? chat_.source : chat_.tool_use_source);
    info.reasoning = ReasoningMarksOf(chat_.source);
    ASSIGN_OR_RETURN(auth_, TenantAuth::Create(config_.tenants));
    front_ = std::make_unique<LoadingService>(std::move(info));
    ASSIGN_OR_RETURN(audit_, AuditLog::Open(config_.admin.audit_path, log_, wall_clock_));
    if (!config_.admin.keys.empty()) {
      ASSIGN_OR_RETURN(admin_auth_, AdminAuth::Create(config_.admin.keys));
    }
    kv_admin_ = std::make_unique<KvAdmin>(config_.tenants,
                                          [this](const AdminAct& act) { audit_->Write(act); });
    RETURN_IF_ERROR(OpenState());
    RETURN_IF_ERROR(OpenUsage());
    RETURN_IF_ERROR(OpenKvEvents());
    OpenTracing();
    ASSIGN_OR_RETURN(http_, HttpServer::Create(HttpOptions(), *front_, *auth_, metrics_,
                                               [this] { return ReadinessNow(); }));
    if (!config_.listen.grpc.empty()) {
      ASSIGN_OR_RETURN(grpc_,
                       GrpcServer::Create({.address = config_.listen.grpc,
                                           .tls = config_.listen.tls,
                                           .kv_admin = admin_auth_ ? nullptr : kv_admin_.get(),
                                           .background = background_.get(),
                                           .files = {.file_bytes_max = FileBytesMax()},
                                           .tracer = tracer_.get()},
                                          *front_, *auth_, [this] { return ReadinessNow(); }));
    }
    return absl::OkStatus();
  }

  absl::Status OpenState() {
    const DaemonConfig::StateSettings& state = config_.state;
    if (state.path.empty()) return absl::OkStatus();
    StateBounds bounds;
    if (state.tenant_bytes_max) {
      bounds.batches.tenant_bytes_max = *state.tenant_bytes_max;
      bounds.responses.tenant_bytes_max = *state.tenant_bytes_max;
    }
    ASSIGN_OR_RETURN(std::unique_ptr<State> kept, State::Open(state.path, bounds, wall_clock_));
    background_ = std::make_unique<BackgroundService>(
        BackgroundOptions{.tenants = NamesOf(config_.tenants),
                          .lines_at_once = state.batch_lines_at_once,
                          .system_fingerprint = Fingerprint(),
                          .on_fault =
                              [this](const absl::Status& status) {
                                log_.Error("state", {{"error", status.ToString()}});
                              }},
        std::move(kept), *front_, metrics_);
    return absl::OkStatus();
  }

  // On the usage thread. Who asks is told nothing of files and disks.
  absl::StatusOr<std::string> AnswerUsage(const UsageAsk& ask) {
    absl::StatusOr<std::string> rows = UsageAsJson(config_.UsagePath(), ask);
    if (rows.ok() || absl::IsInvalidArgument(rows.status())) return rows;
    log_.Error("usage_not_read", {{"error", rows.status().ToString()}});
    return absl::UnavailableError(
        "the usage ledger cannot be read; try again later, or see the daemon's log");
  }

  absl::Status OpenUsage() {
    const std::string path = config_.UsagePath();
    if (path.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(std::unique_ptr<UsageLedger> ledger,
                     UsageLedger::Open(path, NamesOf(config_.tenants), wall_clock_));
    const auto on_change = [this](const absl::Status& status) {
      if (status.ok()) {
        log_.Info("usage_kept_again");
      } else {
        log_.Error("usage_not_kept", {{"error", status.ToString()}});
      }
    };
    usage_ = std::make_unique<UsageService>(
        std::move(ledger), UsageCounters(metrics_, front_->model_info().name),
        UsageOptions{.flush = config_.usage.flush,
                     .keep = config_.usage.Keep(),
                     .on_change = on_change,
                     .answer = [this](const UsageAsk& ask) { return AnswerUsage(ask); }});
    return absl::OkStatus();
  }

  absl::Status OpenKvEvents() {
    const DaemonConfig::KvSettings::Events& events = config_.kv.events;
    if (events.endpoint.empty()) return absl::OkStatus();
    // Some of the longest prompts at once, with all of their blocks on each tier.
    const auto longest = static_cast<size_t>(BlocksFor(model_.config.context_tokens));
    kv_events_ = std::make_unique<KvEventRing>(std::max(size_t{1} << 16, 8 * longest));
    KvEventOptions options{.endpoint = events.endpoint,
                           .replay_endpoint = events.replay_endpoint,
                           .topic = events.topic};
    if (events.replay_bytes) options.replay_bytes = static_cast<size_t>(*events.replay_bytes);
    ASSIGN_OR_RETURN(kv_event_publisher_, KvEventPublisher::Create(std::move(options), *kv_events_,
                                                                   metrics_, wall_clock_));
    log_.Info("kv_events", {{"endpoint", kv_event_publisher_->endpoint()},
                            {"replay_endpoint", kv_event_publisher_->replay_endpoint()}});
    return absl::OkStatus();
  }

  // Short digest of the model, shown in answers.
  std::string Fingerprint() const {
    const std::string_view digest(reinterpret_cast<const char*>(model_.digest.data()), 6);
    return Concat("fp_", absl::BytesToHexString(AbslView(digest)));
  }

  KeptStreamOptions KeptStreams() const {
    const auto& server = config_.server;
    KeptStreamOptions kept{.time_max = server.stream_resume_time_max,
                           .tenant_streams_max = server.stream_resume_tenant_max};
    if (const auto& bytes = server.stream_resume_bytes_max) {
      kept.stream_bytes_max = static_cast<size_t>(*bytes);
    }
    if (const auto& bytes = server.stream_resume_tenant_bytes_max) {
      kept.tenant_bytes_max = static_cast<size_t>(*bytes);
    }
    return kept;
  }

  int64_t FileBytesMax() const { return config_.state.file_bytes_max.value_or(int64_t{100} << 20); }

  HttpServerOptions HttpOptions() {
    // The service ends late requests itself; the HTTP side's own bound is for a service that hangs.
    constexpr absl::Duration kSlack = absl::Seconds(5);
    constexpr size_t kFormBytes = 64 << 10;  // of an upload, around the file
    std::optional<HttpServerOptions::AdminPort> admin;
    if (admin_auth_) {
      admin.emplace(HttpServerOptions::AdminPort{config_.admin.http, admin_auth_.get()});
    }
    return {.address = config_.listen.http,
            .tls = config_.listen.tls,
            .version = options_.version,
            .system_fingerprint = Fingerprint(),
            .metrics_for_all = config_.listen.metrics == "all",
            .loopback_names_only = config_.tenants.empty() && !config_.listen.allow_anonymous,
            .connections_max = config_.server.http_connections_max,
            .upload_bytes_max = static_cast<size_t>(FileBytesMax()) + kFormBytes,
            .request_timeout = config_.server.request_timeout + kSlack,
            .stream_keep_alive = config_.server.stream_keep_alive,
            .kept_streams = KeptStreams(),
            .kv_admin = kv_admin_.get(),
            .admin = std::move(admin),
            .background = background_.get(),
            .ui = BuiltInUi(),
            .tracer = tracer_.get(),
            .on_access = [this](const HttpAccess& access) { LogAccess(access); }};
  }

  void LogAccess(const HttpAccess& access) {
    const LogLevel level = access.code >= 500   ? LogLevel::kWarn
                           : access.code >= 400 ? LogLevel::kInfo
                                                : LogLevel::kDebug;
    const std::string_view tenant =
        access.tenant ? std::string_view(kv_admin_->NameOf(*access.tenant)) : "-";
    log_.Write(level, "http_request",
               {{"method", access.method},
                {"route", access.route},
                {"code", access.code},
                {"tenant", tenant},
                {"request_id", access.request_id},
                {"trace_id", access.trace ? Hex(access.trace->trace) : "-"},
                {"body_bytes", access.body_bytes},
                {"seconds", access.elapsed}});
    // Nobody fills a collector without a key, nor do probes.
    if (tracer_ && access.tenant) AddHttpSpan(access, tenant, *tracer_);
  }

  void LogGeneration(const GenerationRecord& record) {
    const std::string tenant = kv_admin_->NameOf(record.tenant);
    const absl::Time first = std::min(record.first_token, record.end);
    const bool is_fault = record.outcome == Outcome::kError;
    log_.Write(is_fault ? LogLevel::kWarn : LogLevel::kDebug,
               is_fault ? "generation_failed" : "generation",
               {{"id", record.id},
                {"tenant", tenant},
                {"trace_id", record.trace ? Hex(record.trace->trace) : "-"},
                {"outcome", OutcomeName(record.outcome)},
                {"prompt_tokens", record.prompt_tokens},
                {"cached_tokens", record.cached_tokens},
                {"completion_tokens", record.completion_tokens},
                {"first_token_seconds", std::max(first - record.arrival, absl::ZeroDuration())},
                {"seconds", record.end - record.arrival}});
    if (tracer_) AddGenerationSpans(record, tenant, front_->model_info().name, *tracer_);
  }

  void OpenTracing() {
    const auto& tracing = config_.tracing;
    if (tracing.otlp_http.empty()) return;
    const auto on_change = [this](const absl::Status& status) {
      if (status.ok()) {
        log_.Info("traces_taken_again");
      } else {
        log_.Warn("traces_not_taken", {{"error", status.ToString()}});
      }
    };
    tracer_ = std::make_unique<Tracer>(TracerOptions{.otlp_http = tracing.otlp_http,
                                                     .sample_ratio = tracing.sample_ratio,
                                                     .version = options_.version,
                                                     .on_change = on_change},
                                       metrics_);
  }

  absl::StatusOr<int64_t> KvBytes() const {
    const absl::StatusOr<int64_t> free_bytes = FreeMemoryBytes();
    if (const auto wanted = config_.engine.kv_device_bytes) {
      // Where /proc tells nothing, the operator's word stands.
      if (free_bytes.ok()) RETURN_IF_ERROR(CheckKvFits(*wanted, *free_bytes));
      return *wanted;
    }
    RETURN_IF_ERROR(free_bytes.status());
    const KvLayout layout = KvLayoutOfModel();
    return DefaultKvBytes(*free_bytes, {.block_bytes = layout.block_bytes(),
                                        .context_tokens = front_->model_info().context_tokens,
                                        .running_max = config_.scheduler.running_max});
  }

  KvLayout KvLayoutOfModel() const {
    return Transformer::KvLayoutOf(model_.config, EngineOptionsOf(config_).kv_dtype);
  }

  absl::Status LoadParts() {
    // The tokenizer takes about as long as the weights: side by side. Both threads only read
    // model_.
    absl::StatusOr<ModelText> text = absl::InternalError("not loaded");
    std::thread text_thread([&] { text = LoadText(model_, chat_); });
    absl::Status engine = LoadEngine();
    text_thread.join();
    RETURN_IF_ERROR(engine);
    if (!text.ok()) return text.status();
    text_ = *std::move(text);
    model_.vocabulary = {};  // the tokenizer has its own copy

    service_ = std::make_unique<SchedulerGenerationService>(
        ServiceOptions(), *text_.tokenizer, text_.chat_template.get(), clock_, metrics_);
    RETURN_IF_ERROR(StartLoop());
    service_->Connect(PortTo(*loop_));
    KvAdminPort admin_port = AdminPortTo(*loop_);
    admin_port.wire_ids = [this](const std::vector<RequestId>& requests) {
      return service_->WireIds(requests);
    };
    if (usage_) {
      admin_port.ask_usage = [this](UsageAsk ask, auto done) {
        return usage_->Ask(std::move(ask), std::move(done));
      };
    }
    admin_port.reload = [this](ReloadDone done) { return AskReload(std::move(done)); };
    kv_admin_->Connect(std::move(admin_port));
    front_->SwitchTo(*service_);
    if (background_) background_->BeginRunning();
    return absl::OkStatus();
  }

  absl::Status StartLoop() {
    const EngineInfo& info = engine_->info();
    const absl::Time began = SteadyNow();
    ASSIGN_OR_RETURN(tiers_, OpenKvTiers(config_, info, model_.config, clock_));
    tiers_.options.events = kv_events_.get();
    block_mover_ =
        std::make_unique<CpuBlockMover>(engine_->kv_arena(), info.kv_layout, info.num_blocks);
    if (tiers_.remote) LogRemote(tiers_.remote->Ping());
    KvMedia media{.device = block_mover_.get(), .remote = tiers_.remote.get()};
    if (tiers_.disk) media.recovered = tiers_.disk->RecoveredBlocks();
    const size_t num_recovered = media.recovered.size();
    ASSIGN_OR_RETURN(loop_, SchedulerLoop::Create(
                                *engine_, LoopOptions(), metrics_, *service_,
                                [this](const absl::Status& status) { OnStepFailed(status); },
                                &clock_, std::move(media)));
    if (tiers_.host) log_.Info("kv_host", {{"blocks", tiers_.host->capacity()}});
    if (tiers_.disk) LogDisk(num_recovered, SteadyNow() - began);
    return absl::OkStatus();
  }

  void LogDisk(size_t num_recovered, absl::Duration elapsed) {
    const DiskRecovery& recovery = tiers_.disk->recovery();
    for (const std::string& warning : recovery.warnings) log_.Warn("kv_disk", {{"what", warning}});
    log_.Info("kv_disk", {{"what", tiers_.disk->Describe()},
                          {"found", num_recovered},
                          {"adopted", loop_->adoption().adopted},
                          {"refused", loop_->adoption().refused},
                          {"torn", recovery.scanned.torn},
                          {"other_model", recovery.scanned.other_layout},
                          {"other_version", recovery.scanned.other_version},
                          {"duplicate", recovery.duplicate},
                          {"over_limit", recovery.over_capacity},
                          {"seconds", elapsed}});
  }

  void LogRemote(const absl::Status& reached) {
    const std::string& url = config_.kv.remote.url;
    if (reached.ok()) {
      log_.Info("kv_remote", {{"server", url}});
    } else {
      log_.Warn("kv_remote", {{"server", url}, {"what", Concat(reached.message())}});
    }
  }

  absl::Status LoadEngine() {
    CpuEngineOptions options = EngineOptionsOf(config_);
    ASSIGN_OR_RETURN(options.kv_device_bytes, KvBytes());
    ASSIGN_OR_RETURN(engine_, CpuEngine::Create(model_, options));
    log_.Info("engine", {{"what", engine_->Describe()}});
    return absl::OkStatus();
  }

  GenerationServiceOptions ServiceOptions() {
    const KvLayout& layout = engine_->info().kv_layout;
    GenerationServiceOptions options{
        .model = front_->model_info(),
        .eos_tokens = model_.config.eos_tokens,
        .model_digest = engine_->info().model_digest,
        .tenants = config_.tenants,
        .prefix_cache = config_.scheduler.prefix_cache,
        .text_threads = config_.server.text_threads,
        .request_timeout = config_.server.request_timeout,
        .on_end = [this](const GenerationRecord& record) { LogGeneration(record); }};
    options.kv_layout = Concat(KvDtypeName(layout.dtype), "/", layout.num_layers, "x",
                               layout.num_kv_heads, "x", layout.head_dim, "/", kBlockTokens);
    return options;
  }

  SchedulerOptions LoopOptions() const {
    SchedulerOptions options = SchedulerOptionsOf(config_);
    options.lookup_wait = config_.kv.remote.call_timeout;
    options.model_name = front_->model_info().name;
    options.kv = tiers_.options;
    return options;
  }

  // While ready, `loop_` is there: it is made before and goes after the ports are closed.
  Readiness ReadinessNow() const {
    const Readiness readiness = readiness_.load();
    const bool is_failing = readiness == Readiness::kReady && loop_->snapshot().engine_failing;
    return is_failing ? Readiness::kFailing : readiness;
  }

  // On the scheduler's thread.
  void OnStepFailed(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    log_.Error("engine_step_failed", {{"error", status.ToString()}});
    absl::MutexLock lock(&mutex_);
    step_failed_ = true;
  }

  absl::Status AnnounceReady() {
    const int grpc_port = grpc_ ? grpc_->port() : 0;
    {
      absl::MutexLock lock(&mutex_);
      if (told_to_stop_) return absl::OkStatus();
      readiness_ = Readiness::kReady;
    }
    if (grpc_) grpc_->SetReadiness(Readiness::kReady);
    if (!options_.port_file.empty()) {
      RETURN_IF_ERROR(
          WritePortFile(options_.port_file, http_->port(), grpc_port, http_->admin_port()));
    }
    const EngineInfo& info = engine_->info();
    const int64_t kv_bytes =
        static_cast<int64_t>(info.num_blocks) * static_cast<int64_t>(info.kv_layout.block_bytes());
    log_.Info("ready", {{"model", front_->model_info().name},
                        {"http", WithPort(config_.listen.http, http_->port())},
                        {"grpc", grpc_ ? WithPort(config_.listen.grpc, grpc_port) : "none"},
                        {"admin", http_->admin_port() == 0
                                      ? "none"
                                      : WithPort(config_.admin.http, http_->admin_port())},
                        {"tls", config_.listen.tls ? "on" : "off"},
                        {"tenants", config_.tenants.size()},
                        {"context_tokens", info.context_tokens},
                        {"kv_blocks", info.num_blocks},
                        {"kv_bytes", kv_bytes},
                        {"seconds", SteadyNow() - began_}});
    return absl::OkStatus();
  }

  static std::string WithPort(const std::string& address, int port) {
    return Concat(address.substr(0, address.rfind(':') + 1), port);
  }

  // On the signals' thread.
  void OnSignal(int signal) ABSL_LOCKS_EXCLUDED(mutex_) {
    if (signal == SIGHUP) {
      absl::MutexLock lock(&mutex_);
      told_to_reload_ = true;  // while loading: once ready
      return;
    }
    bool is_loading = false;
    {
      absl::MutexLock lock(&mutex_);
      told_to_stop_ = true;
      is_loading = readiness_ == Readiness::kLoading;
      if (stop_wishes_.Next() != StopWish::kAtOnce && !is_loading) return;
    }
    // Nothing to finish, or told twice: no destructors, which would wait for other threads.
    std::fputs(is_loading ? "holdfast: stopped while loading\n"
                          : "holdfast: second signal, stopped at once\n",
               stderr);
    std::_Exit(is_loading ? 0 : 1);
  }

  // HTTP and gRPC calls ask ReadinessNow themselves; gRPC's health watchers must be told.
  void WaitForStop() {
    Readiness told = Readiness::kReady;
    HeapTrim heap(HeapTrim::OfThisProcess());
    while (!WaitForNews(told == Readiness::kFailing ? kRecoveryPoll : kHeapTrimPeriod)) {
      ReloadIfAsked();
      const absl::Time began = SteadyNow();
      if (const auto sizes = heap.Look()) {
        log_.Debug("heap_trimmed", {{"before_bytes", sizes->before_bytes},
                                    {"after_bytes", sizes->after_bytes},
                                    {"seconds", SteadyNow() - began}});
      }
      const Readiness now = ReadinessNow();
      if (now == told) continue;
      told = now;
      if (grpc_) grpc_->SetReadiness(now);
      if (now == Readiness::kFailing) {
        log_.Error("engine_failing", {{"what", "not ready until a step succeeds, or for a while"}});
      } else {
        log_.Info("engine_asked_again");
      }
    }
  }

  using ReloadDone = std::function<void(absl::StatusOr<ReloadView>)>;

  // By any thread.
  bool AskReload(ReloadDone done) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (told_to_stop_) return false;
    reload_calls_.push_back(std::move(done));
    return true;
  }

  ConfigReload::Parts ReloadedParts() {
    return {.auth = *auth_,
            .admin_auth = admin_auth_.get(),
            .kv_admin = *kv_admin_,
            .service = *service_,
            .background = background_.get(),
            .usage = usage_.get(),
            .loop = *loop_,
            .shares_of = [this](const std::vector<TenantConfig>& tenants)
                -> absl::StatusOr<std::vector<TenantShares>> {
              ASSIGN_OR_RETURN(std::vector<TenantShares> shares,
                               SharesOf(tenants, tiers_, engine_->info()));
              RETURN_IF_ERROR(Scheduler::CheckFloors(engine_->info(), shares));
              return shares;
            }};
  }

  // Once for all who have asked by now.
  void ReloadIfAsked() ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<ReloadDone> calls;
    bool by_signal = false, is_stopping = false;
    {
      absl::MutexLock lock(&mutex_);
      calls.swap(reload_calls_);
      by_signal = std::exchange(told_to_reload_, false);
      is_stopping = told_to_stop_;
    }
    if (!by_signal && calls.empty()) return;
    absl::StatusOr<ReloadView> view = absl::UnavailableError("the server is stopping");
    if (!is_stopping) view = reload_.Run(ReloadedParts());
    if (by_signal) audit_->Write({.who = "SIGHUP", .act = "reload", .result = view.status()});
    for (const ReloadDone& done : calls) done(view);
  }

  // True: told to stop, and readiness says so. False: told to reload, a step failed, or `patience`
  // is over.
  bool WaitForNews(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto has_news = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return told_to_stop_ || told_to_reload_ || !reload_calls_.empty() || step_failed_;
    };
    mutex_.AwaitWithTimeout(absl::Condition(&has_news), patience);
    step_failed_ = false;
    if (told_to_stop_) {
      const bool gives_notice = config_.server.drain_notice > absl::ZeroDuration();
      readiness_ = gives_notice ? Readiness::kLeaving : Readiness::kDraining;
    }
    return told_to_stop_;
  }

  // Balancers ask for readiness now and then, and send until they have heard. A second signal ends
  // the process (OnSignal), so nothing has to be waited for but time.
  void GiveNotice() {
    if (readiness_.load() != Readiness::kLeaving) return;
    log_.Info("leaving",
              {{"running", service_->running()}, {"drain_notice", config_.server.drain_notice}});
    if (grpc_) grpc_->SetReadiness(Readiness::kLeaving);
    absl::SleepFor(config_.server.drain_notice);
    readiness_ = Readiness::kDraining;
  }

  void Drain() {
    const absl::Time deadline = absl::Now() + config_.server.drain_timeout;
    log_.Info("draining",
              {{"running", service_->running()}, {"drain_timeout", config_.server.drain_timeout}});
    http_->BeginDrain();
    if (grpc_) grpc_->BeginDrain();
    if (background_) background_->BeginDrain();
    service_
        ->BeginDrain();  // the scheduler's loop goes on: prompts being tokenised are accepted too
    const bool is_idle = service_->WaitIdle(deadline);
    if (!is_idle) {
      log_.Warn("drain_timeout", {{"cancelled", service_->running()}});
      service_->CancelAll(absl::UnavailableError("the server is stopping; send the request again"));
    }
    BeginHandDown();
    // What is computed is yet to be written to the clients.
    const absl::Time last = std::max(deadline, absl::Now() + kFarewell);
    http_->WaitIdle(is_idle ? last : absl::Now() + kFarewell);
    if (grpc_) grpc_->Shutdown(is_idle ? last : absl::Now() + kFarewell);
    if (background_) background_->Stop();
    WaitHandedDown(std::max(deadline, absl::Now() + kFarewell));
  }

  // So that the next daemon, or another, starts with the KV. What was cancelled ends before.
  void BeginHandDown() {
    loop_->BeginDrain();
    if (tiers_.disk || tiers_.remote) loop_->BeginHandDown();
  }

  void WaitHandedDown(absl::Time deadline) {
    if (!tiers_.disk && !tiers_.remote) return;
    const KvStore::HandedDown handed = loop_->WaitHandedDown(deadline);
    log_.Info("kv_handed_down", {{"wanted", handed.wanted},
                                 {"copied", handed.copied},
                                 {"ended", handed.ended ? "yes" : "no"}});
  }

  void StopParts() {
    if (http_) http_->Stop();
    if (grpc_) grpc_->Shutdown(absl::Now());
    if (background_) background_->Stop();
    if (loop_) loop_->Stop();
    if (service_) service_->Shutdown();
    http_.reset();
    grpc_.reset();
    background_.reset();
    loop_.reset();
    kv_event_publisher_.reset();  // sends what is left
    service_.reset();
    usage_.reset();   // writes what all of them have counted
    tracer_.reset();  // likewise
  }

  const DaemonOptions& options_;
  const DaemonConfig& config_;  // as it was at start
  SteadyClock clock_;
  WallClock wall_clock_;
  Log log_;
  LibraryLog library_log_{log_};
  MetricsRegistry metrics_;
  ConfigReload reload_{config_, options_.read_config, log_, metrics_};
  absl::Time began_;

  std::atomic<Readiness> readiness_{Readiness::kLoading};
  absl::Mutex mutex_;
  bool told_to_stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool told_to_reload_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<ReloadDone> reload_calls_ ABSL_GUARDED_BY(mutex_);
  bool step_failed_ ABSL_GUARDED_BY(mutex_) = false;  // since WaitForNews last returned
  StopWishes stop_wishes_ ABSL_GUARDED_BY(mutex_){clock_};

  LoadedModel model_;
  ChatTemplateSource chat_;
  ModelText text_;
  std::unique_ptr<CpuEngine> engine_;
  std::unique_ptr<CpuBlockMover> block_mover_;
  KvTiers tiers_;
  std::unique_ptr<KvEventRing> kv_events_;  // nullptr: nobody hears of blocks
  std::unique_ptr<KvEventPublisher> kv_event_publisher_;
  std::unique_ptr<TenantAuth> auth_;
  std::unique_ptr<AdminAuth> admin_auth_;  // null: there is no port for administrators
  std::unique_ptr<AuditLog> audit_;
  std::unique_ptr<LoadingService> front_;
  std::unique_ptr<KvAdmin> kv_admin_;
  std::unique_ptr<SchedulerGenerationService> service_;
  std::unique_ptr<SchedulerLoop> loop_;
  std::unique_ptr<UsageService> usage_;
  std::unique_ptr<Tracer> tracer_;  // null: nothing is traced
  std::unique_ptr<BackgroundService> background_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace

absl::Status RunDaemon(const DaemonOptions& options) {
  Daemon daemon(options);
  return daemon.Run();
}

}  // namespace holdfast
