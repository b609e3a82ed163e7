// The daemon's settings: one YAML file, read once, checked whole (all faults in one message, each
// with its line), then constant. Flags of `holdfast serve` override single values.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/tenant_config.h"

namespace holdfast {

struct TlsConfig {
  std::string certificate_path;  // PEM chain
  std::string key_path;          // PEM
};

struct DaemonConfig {
  struct Listen {
    std::string http = "127.0.0.1:8080";   // ADDR:PORT; port 0: the system picks, printed at start
    std::string grpc = "127.0.0.1:50051";  // empty: none
    std::optional<TlsConfig> tls;          // for all ports
    // Without keys: serve other than loopback too (else refused at start), and requests that name
    // another host (else refused, as a web page's would be).
    bool allow_anonymous = false;
    // Who may read /metrics, which counts every tenant and takes no key: loopback (this machine, a
    // proxy on it included: have that one block the path) | all (whoever reaches the HTTP port: for
    // a private network, or behind your proxy's own rules).
    std::string metrics = "loopback";
  } listen;

  struct Model {
    std::string path;  // GGUF file or Hugging Face folder
    std::string name;  // on the wire; default: of `path`, without the kind of its weights
    std::vector<std::string> aliases;
    std::string chat_template;          // Jinja file; empty: the model's own
    std::string weights = "native";     // native | f32 (dequantised; the oracle's arithmetic)
    std::string activations = "mixed";  // mixed | 16bit, of products with quantised weights
    std::string pooling = "auto";       // auto (the file's own, else mean) | mean | last
    bool matryoshka = false;            // its embeddings may be cut short
  } model;

  struct EngineSettings {
    int32_t threads = 0;       // 0: all cores
    bool pin_threads = false;  // each to a core of its own
    // auto | scalar | avx2 | avx512-vnni | avx512-bf16 | avx512-amx
    std::string isa = "auto";
    std::string kv_dtype = "f16";            // f16 | f32 | i8
    std::optional<int64_t> kv_device_bytes;  // default: a share of free memory
    std::optional<int32_t> context_tokens;   // default and most: the model's
  } engine;

  struct KvSettings {
    std::optional<int64_t> host_bytes;  // memory for KV that left the device; default and 0: none
    std::string eviction = "lru";       // lru | cost_aware
    struct Disk {
      std::string path;              // directory of KV that left memory; empty: none
      std::optional<int64_t> bytes;  // of all its files together; needed with a path
      std::string sync = "none";     // none | segment_end
    } disk;
    struct Remote {
      std::string url;                            // host:port or unix:PATH; empty: none
      std::string username;                       // empty: the server's default user
      std::string password_path;                  // file with the password; empty: none
      absl::Duration ttl = absl::ZeroDuration();  // 0: until the server evicts it
      absl::Duration connect_timeout = absl::Milliseconds(500);
      absl::Duration call_timeout = absl::Seconds(1);
    } remote;
    struct Events {                 // over ZeroMQ, for routers
      std::string endpoint;         // tcp://ADDR:PORT or ipc://PATH to subscribe at; empty: none
      std::string replay_endpoint;  // likewise, to ask for past ones; empty: none
      std::string topic = "kv-events";      // first part of each message
      std::optional<int64_t> replay_bytes;  // of past ones; default: 64 MiB
      bool allow_network = false;           // other addresses than loopback; else refused at start
    } events;
  } kv;

  struct SchedulerSettings {
    int32_t running_max = 64;        // sequences in one step
    int32_t waiting_max = 512;       // requests in the queue; beyond: 429
    int32_t step_tokens_max = 512;   // token budget of a step
    int32_t chunk_tokens_max = 512;  // of one sequence's prefill in a step
    bool prefix_cache = true;
    std::string policy = "continuum";                // of config/scheduler_policy.h
    std::string order = "remaining_work";            // likewise
    int32_t bypass_max = 32;                         // requests that may overtake one
    int32_t pin_window = 8;                          // that keep what they will find; 0: none
    std::string speculation = "off";                 // likewise
    int32_t draft_tokens_max = 8;                    // of one sequence in a step
    absl::Duration ageing_time = absl::Seconds(10);  // then who waits counts as more important
    absl::Duration queue_wait_max = absl::ZeroDuration();  // expected; beyond: 429; 0: any
    int32_t offline_step_tokens_max = 64;                  // of a step, for offline requests
    int32_t long_prefill_tokens_max = 256;  // of a step, for long prompts beside decodes
    absl::Duration step_time_max = absl::Milliseconds(100);  // while tenants share the machine
  } scheduler;

  struct ServerSettings {
    int32_t text_threads = 2;
    int32_t http_connections_max = 1024;
    absl::Duration drain_notice = absl::ZeroDuration();  // not ready, but still taking requests
    absl::Duration drain_timeout = absl::Seconds(30);
    absl::Duration request_timeout = absl::Minutes(10);
    absl::Duration stream_keep_alive = absl::Seconds(15);
    // Streams that outlive their connection where the client asks for it.
    absl::Duration stream_resume_time_max = absl::Seconds(60);  // unread; 0: none does
    std::optional<int64_t> stream_resume_bytes_max;         // of the events of one; default: 4 MiB
    std::optional<int64_t> stream_resume_tenant_bytes_max;  // of a tenant's; default: 32 MiB
    int32_t stream_resume_tenant_max = 64;                  // such streams of a tenant
  } server;

  struct StateSettings {
    std::string path;  // SQLite file of files, batches and responses; empty: none are kept
    std::optional<int64_t> file_bytes_max;  // of one upload; default: 100 MiB
    std::optional<int64_t>
        tenant_bytes_max;              // of a tenant's files, and of its responses; default: 1 GiB
    int32_t batch_lines_at_once = 32;  // that run, of all batches
  } state;

  struct UsageSettings {
    // SQLite file of what each tenant used; default: beside state.path, where there is one; empty:
    // none.
    std::optional<std::string> path;
    absl::Duration flush = absl::Seconds(5);  // between two writes
    int32_t keep_days = 0;                    // that an hour is kept; 0: for ever
    absl::Duration Keep() const {
      return keep_days == 0 ? absl::InfiniteDuration() : keep_days * absl::Hours(24);
    }
  } usage;
  struct MetricsSettings {
    int32_t tenants_max = 64;  // with series of their own; the others are counted as `other`
  } metrics;
  struct TracingSettings {
    std::string otlp_http;      // host:port of a collector that takes OTLP over HTTP; empty: none
    double sample_ratio = 1.0;  // of requests that come without a trace of their own
  } tracing;
  // empty: none
  std::string UsagePath() const {
    return usage.path.value_or(state.path.empty() ? "" : state.path + ".usage");
  }

  struct AdminSettings {
    std::string http =
        "127.0.0.1:8081";       // of a port for administrators; opened where there are keys
    std::vector<KeyHash> keys;  // theirs
    std::string audit_path;     // file of what they did; empty: the log alone has it
  } admin;

  struct LogSettings {
    std::string level = "info";   // debug | info | warn | error
    std::string format = "text";  // text | json
  } log;

  std::vector<TenantConfig> tenants;  // empty: the one tenant `default`, no keys

  // Where each single-valued setting that was given comes from, for messages about it:
  // "listen.http" to "holdfast.yaml:3" or "--http". Not there: the default.
  std::map<std::string, std::string, std::less<>> origins;
};

// Reads and checks the YAML text (1 MiB at most). kInvalidArgument lists every fault as
// `file:line: what`, one a line, an unknown key with the nearest known one.
absl::StatusOr<DaemonConfig> ParseDaemonConfig(std::string_view yaml, const std::string& file_name);
absl::StatusOr<DaemonConfig> LoadDaemonConfig(const std::string& path);

// Sets one single-valued setting by its path, `scheduler.running_max`, from a flag's text. The
// error says what was wanted and found, without the setting's name; nothing has changed then.
absl::Status OverrideSetting(std::string_view path, std::string_view text, DaemonConfig& config);

// What no single setting can know of itself; ParseDaemonConfig has checked it already, so this is
// for after OverrideSetting. One sentence a fault.
absl::Status CheckDaemonConfig(const DaemonConfig& config);

// The file's JSON Schema (draft 2020-12), made from the same table as the parser; shipped as
// daemon_config.schema.json for editors.
std::string DaemonConfigSchema();

}  // namespace holdfast
