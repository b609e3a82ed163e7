#include "config/daemon_config_table.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "config/base/check.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/endpoint.h"
#include "config/remote_endpoint.h"
#include "config/scheduler_policy.h"

namespace holdfast {
namespace {

constexpr int64_t kMillisecondsOfDay = 24 * 60 * 60 * 1000;
constexpr int64_t kTokenRateMax = 1'000'000'000'000;
constexpr size_t kTextBytesMax = 4096;
constexpr size_t kNameBytesMax = 64;
constexpr std::string_view kHashPrefix = "sha256:";

#define DAEMON_SLOT(member) \
  [](const SettingOwner& owner) -> SettingSlot { return &owner.daemon->member; }
#define TLS_SLOT(member) [](const SettingOwner& owner) -> SettingSlot { return &owner.tls->member; }
#define TENANT_SLOT(member) \
  [](const SettingOwner& owner) -> SettingSlot { return &owner.tenant->member; }

std::vector<Setting> MakeSettings() {
  using enum SettingKind;
  return {
      {.section = "listen",
       .key = "http",
       .kind = kEndpoint,
       .slot = DAEMON_SLOT(listen.http),
       .about = "ADDR:PORT of the OpenAI-compatible HTTP port; port 0: the system picks"},
      {.section = "listen",
       .key = "grpc",
       .kind = kEndpoint,
       .slot = DAEMON_SLOT(listen.grpc),
       .about = "ADDR:PORT of the gRPC port; empty: no gRPC",
       .may_be_empty = true},
      {.section = "listen",
       .key = "allow_anonymous",
       .kind = kBool,
       .slot = DAEMON_SLOT(listen.allow_anonymous),
       .about = "without keys: serve addresses other than loopback, and requests that name "
                "another host (Host, Origin)"},
      {.section = "listen",
       .key = "metrics",
       .kind = kChoice,
       .slot = DAEMON_SLOT(listen.metrics),
       .about = "who may read /metrics, which counts every tenant and takes no key: this machine "
                "only, or all who reach the port",
       .choices = {"loopback", "all"}},
      {.section = "listen.tls",
       .key = "certificate_path",
       .kind = kText,
       .slot = TLS_SLOT(certificate_path),
       .about = "certificate chain, PEM",
       .required = true},
      {.section = "listen.tls",
       .key = "key_path",
       .kind = kText,
       .slot = TLS_SLOT(key_path),
       .about = "private key, PEM",
       .required = true},

      {.section = "model",
       .key = "path",
       .kind = kText,
       .slot = DAEMON_SLOT(model.path),
       .about = "GGUF file or Hugging Face folder"},
      {.section = "model",
       .key = "name",
       .kind = kText,
       .slot = DAEMON_SLOT(model.name),
       .about = "the model's name on the wire; default: the file's or folder's name, without the "
                "kind of its weights"},
      {.section = "model",
       .key = "aliases",
       .kind = kTexts,
       .slot = DAEMON_SLOT(model.aliases),
       .about = "further names under which the model is served",
       .most = 64},
      {.section = "model",
       .key = "weights",
       .kind = kChoice,
       .slot = DAEMON_SLOT(model.weights),
       .about = "native: as they lie in the file; f32: dequantised, slow, the reference",
       .choices = {"native", "f32"}},
      {.section = "model",
       .key = "activations",
       .kind = kChoice,
       .slot = DAEMON_SLOT(model.activations),
       .about =
           "what quantised weights are multiplied by: mixed: 8 bits, 16 where a block of a row "
           "is far larger than its others; 16bit: 16 throughout, slower",
       .choices = {"mixed", "16bit"}},

      {.section = "engine",
       .key = "threads",
       .kind = kInteger,
       .slot = DAEMON_SLOT(engine.threads),
       .about = "compute threads; 0: one a core",
       .least = 0,
       .most = 1024},
      {.section = "engine",
       .key = "isa",
       .kind = kChoice,
       .slot = DAEMON_SLOT(engine.isa),
       .about = "instruction set of the kernels",
       .choices = {"auto", "scalar", "avx2", "avx512-vnni"}},
      {.section = "engine",
       .key = "kv_dtype",
       .kind = kChoice,
       .slot = DAEMON_SLOT(engine.kv_dtype),
       .about = "number format of the KV cache",
       .choices = {"f16", "f32", "i8"}},
      {.section = "engine",
       .key = "kv_device_bytes",
       .kind = kBytes,
       .slot = DAEMON_SLOT(engine.kv_device_bytes),
       .about = "memory for KV blocks; default: a share of free memory",
       .least = int64_t{1} << 20,
       .most = int64_t{1} << 50},
      {.section = "engine",
       .key = "context_tokens",
       .kind = kInteger,
       .slot = DAEMON_SLOT(engine.context_tokens),
       .about = "longest sequence, prompt and completion; default and most: the model's",
       .least = 1,
       .most = 1 << 24},

      {.section = "kv",
       .key = "host_bytes",
       .kind = kBytes,
       .slot = DAEMON_SLOT(kv.host_bytes),
       .about = "memory for KV blocks that left the device; default and 0: none",
       .least = 0,
       .most = int64_t{1} << 50},
      {.section = "kv",
       .key = "eviction",
       .kind = kChoice,
       .slot = DAEMON_SLOT(kv.eviction),
       .about = "which KV goes first: the longest unused, or what is cheap to lose",
       .choices = {"lru", "cost_aware"}},
      {.section = "kv.disk",
       .key = "path",
       .kind = kText,
       .slot = DAEMON_SLOT(kv.disk.path),
       .about = "directory for KV blocks that left memory, of one daemon alone; empty: none",
       .may_be_empty = true},
      {.section = "kv.disk",
       .key = "bytes",
       .kind = kBytes,
       .slot = DAEMON_SLOT(kv.disk.bytes),
       .about = "most bytes of all files there together",
       .least = int64_t{1} << 20,
       .most = int64_t{1} << 50},
      {.section = "kv.disk",
       .key = "sync",
       .kind = kChoice,
       .slot = DAEMON_SLOT(kv.disk.sync),
       .about = "when files are synced: never, or each when it is full",
       .choices = {"none", "segment_end"}},
      {.section = "kv.remote",
       .key = "url",
       .kind = kServer,
       .slot = DAEMON_SLOT(kv.remote.url),
       .about = "Valkey or Redis server, host:port or unix:PATH; empty: none",
       .may_be_empty = true},
      {.section = "kv.remote",
       .key = "username",
       .kind = kText,
       .slot = DAEMON_SLOT(kv.remote.username),
       .about = "who we are there; empty: the default user",
       .may_be_empty = true},
      {.section = "kv.remote",
       .key = "password_path",
       .kind = kText,
       .slot = DAEMON_SLOT(kv.remote.password_path),
       .about = "file whose first line is the password; empty: none is sent",
       .may_be_empty = true},
      {.section = "kv.remote",
       .key = "ttl",
       .kind = kDuration,
       .slot = DAEMON_SLOT(kv.remote.ttl),
       .about = "how long the server keeps a block; 0: until it needs the room",
       .least = 0,
       .most = 30 * kMillisecondsOfDay},
      {.section = "kv.remote",
       .key = "connect_timeout",
       .kind = kDuration,
       .slot = DAEMON_SLOT(kv.remote.connect_timeout),
       .about = "for a connection to the server",
       .least = 1,
       .most = 60'000},
      {.section = "kv.remote",
       .key = "call_timeout",
       .kind = kDuration,
       .slot = DAEMON_SLOT(kv.remote.call_timeout),
       .about = "for its answer to one call, and for how long a request waits for a look-up",
       .least = 1,
       .most = 60'000},

      {.section = "scheduler",
       .key = "running_max",
       .kind = kInteger,
       .slot = DAEMON_SLOT(scheduler.running_max),
       .about = "sequences computed at once",
       .least = 1,
       .most = 4096},
      {.section = "scheduler",
       .key = "waiting_max",
       .kind = kInteger,
       .slot = DAEMON_SLOT(scheduler.waiting_max),
       .about = "requests in the queue; beyond it: 429",
       .least = 1,
       .most = 1'000'000},
      {.section = "scheduler",
       .key = "step_tokens_max",
       .kind = kInteger,
       .slot = DAEMON_SLOT(scheduler.step_tokens_max),
       .about = "tokens computed in one step",
       .least = 1,
       .most = 65536},
      {.section = "scheduler",
       .key = "chunk_tokens_max",
       .kind = kInteger,
       .slot = DAEMON_SLOT(scheduler.chunk_tokens_max),
       .about = "tokens of one prompt computed in one step",
       .least = 1,
       .most = 65536},
      {.section = "scheduler",
       .key = "prefix_cache",
       .kind = kBool,
       .slot = DAEMON_SLOT(scheduler.prefix_cache),
       .about = "reuse the KV of prompts that begin alike"},
      {.section = "scheduler",
       .key = "policy",
       .kind = kChoice,
       .slot = DAEMON_SLOT(scheduler.policy),
       .about = "in what order agents' programs are served, and how long their KV is kept",
       .choices = {kSchedulerPolicyNames.begin(), kSchedulerPolicyNames.end()}},
      {.section = "scheduler",
       .key = "order",
       .kind = kChoice,
       .slot = DAEMON_SLOT(scheduler.order),
       .about = "which of equally ranked requests goes first: the least left to compute, the "
                "largest cached part, or the earliest",
       .choices = {kWaitOrderNames.begin(), kWaitOrderNames.end()}},
      {.section = "scheduler",
       .key = "bypass_max",
       .kind = kInteger,
       .slot = DAEMON_SLOT(scheduler.bypass_max),
       .about = "requests that may overtake a waiting one",
       .least = 0,
       .most = 1'000'000},
      {.section = "scheduler",
       .key = "ageing_time",
       .kind = kDuration,
       .slot = DAEMON_SLOT(scheduler.ageing_time),
       .about = "after which a waiting request counts as more important",
       .least = 1,
       .most = kMillisecondsOfDay},
      {.section = "scheduler",
       .key = "queue_wait_max",
       .kind = kDuration,
       .slot = DAEMON_SLOT(scheduler.queue_wait_max),
       .about = "a request that would wait longer before it runs is refused; 0: none is",
       .least = 0,
       .most = kMillisecondsOfDay},
      {.section = "scheduler",
       .key = "step_time_max",
       .kind = kDuration,
       .slot = DAEMON_SLOT(scheduler.step_time_max),
       .about = "about how long a step may last while several tenants share the machine",
       .least = 1,
       .most = kMillisecondsOfDay},
      {.section = "scheduler",
       .key = "offline_step_tokens_max",
       .kind = kInteger,
       .slot = DAEMON_SLOT(scheduler.offline_step_tokens_max),
       .about = "tokens of a step for offline requests",
       .least = 1,
       .most = 65536},
      {.section = "scheduler",
       .key = "long_prefill_tokens_max",
       .kind = kInteger,
       .slot = DAEMON_SLOT(scheduler.long_prefill_tokens_max),
       .about = "tokens of a step for long prompts while other sequences decode",
       .least = 1,
       .most = 65536},

      {.section = "server",
       .key = "text_threads",
       .kind = kInteger,
       .slot = DAEMON_SLOT(server.text_threads),
       .about = "threads that tokenise and detokenise",
       .least = 1,
       .most = 64},
      {.section = "server",
       .key = "http_connections_max",
       .kind = kInteger,
       .slot = DAEMON_SLOT(server.http_connections_max),
       .about = "open HTTP connections; beyond it: 503",
       .least = 1,
       .most = 65536},
      {.section = "server",
       .key = "drain_timeout",
       .kind = kDuration,
       .slot = DAEMON_SLOT(server.drain_timeout),
       .about = "how long running requests may take to finish once the daemon is told to stop",
       .least = 0,
       .most = kMillisecondsOfDay},
      {.section = "server",
       .key = "request_timeout",
       .kind = kDuration,
       .slot = DAEMON_SLOT(server.request_timeout),
       .about = "longest time from a request's arrival to its end; beyond it: 504",
       .least = 100,
       .most = kMillisecondsOfDay},

      {.section = "log",
       .key = "level",
       .kind = kChoice,
       .slot = DAEMON_SLOT(log.level),
       .about = "the least that is logged",
       .choices = {"debug", "info", "warn", "error"}},
      {.section = "log",
       .key = "format",
       .kind = kChoice,
       .slot = DAEMON_SLOT(log.format),
       .about = "text for people, json (one object a line) for machines",
       .choices = {"text", "json"}},

      {.section = "tenants",
       .key = "name",
       .kind = kName,
       .slot = TENANT_SLOT(name),
       .about = "who; stands in logs and metrics",
       .required = true},
      {.section = "tenants",
       .key = "keys",
       .kind = kKeyHashes,
       .slot = TENANT_SLOT(keys),
       .about = "hashes of the tenant's keys, as `holdfast keys new` prints them",
       .least = 1,
       .most = 64,
       .required = true},
      {.section = "tenants",
       .key = "sharing_group",
       .kind = kName,
       .slot = TENANT_SLOT(sharing_group),
       .about = "tenants of one group share KV; default: the tenant alone"},
      {.section = "tenants",
       .key = "running_max",
       .kind = kInteger,
       .slot = TENANT_SLOT(running_max),
       .about = "the tenant's requests running at once; 0: no bound of its own",
       .least = 0,
       .most = 1'000'000},
      {.section = "tenants",
       .key = "waiting_max",
       .kind = kInteger,
       .slot = TENANT_SLOT(waiting_max),
       .about = "the tenant's requests in the queue; 0: no bound of its own",
       .least = 0,
       .most = 1'000'000},
      {.section = "tenants",
       .key = "weight",
       .kind = kNumber,
       .slot = TENANT_SLOT(weight),
       .about = "its part of the machine beside the others': twice the weight, twice the part",
       .least = 0,
       .most = 1'000'000,
       .above_least = true},
      {.section = "tenants",
       .key = "priority_max",
       .kind = kInteger,
       .slot = TENANT_SLOT(priority_max),
       .about =
           "the most important `priority` that its requests may claim; lower is more important",
       .least = -1'000'000,
       .most = 1'000'000},
      {.section = "tenants",
       .key = "requests_per_second",
       .kind = kNumber,
       .slot = TENANT_SLOT(requests_per_second),
       .about = "beyond it: 429; 0: no bound",
       .least = 0,
       .most = 1'000'000},
      {.section = "tenants",
       .key = "requests_burst",
       .kind = kInteger,
       .slot = TENANT_SLOT(requests_burst),
       .about = "requests at once after a pause; 0: those of one second, at least 1",
       .least = 0,
       .most = 1'000'000},
      {.section = "tenants",
       .key = "tokens_per_minute",
       .kind = kInteger,
       .slot = TENANT_SLOT(tokens_per_minute),
       .about = "of prompts, as far as they are computed, and completions; beyond it: 429; 0: no "
                "bound",
       .least = 0,
       .most = kTokenRateMax},
      {.section = "tenants",
       .key = "tokens_burst",
       .kind = kInteger,
       .slot = TENANT_SLOT(tokens_burst),
       .about =
           "tokens at once after a pause, and the most that one request may ask for (prompt and "
           "max_tokens); 0: those of one minute",
       .least = 0,
       .most = kTokenRateMax},
      {.section = "tenants",
       .key = "admin",
       .kind = kBool,
       .slot = TENANT_SLOT(admin),
       .about = "sees every tenant's part of the KV cache, and may drop its pins"},
      {.section = "tenants.kv",
       .key = "pinned_max",
       .kind = kAmount,
       .slot = TENANT_SLOT(kv.pinned_max),
       .about = "of the device, for KV kept between turns; default: half of it, shared equally"},
      {.section = "tenants.kv.device",
       .key = "floor",
       .kind = kAmount,
       .slot = TENANT_SLOT(kv.device.floor),
       .about = "of the device that others leave alone"},
      {.section = "tenants.kv.device",
       .key = "ceiling",
       .kind = kAmount,
       .slot = TENANT_SLOT(kv.device.ceiling),
       .about = "of the device beyond which the tenant makes room at its own cost"},
      {.section = "tenants.kv.host",
       .key = "floor",
       .kind = kAmount,
       .slot = TENANT_SLOT(kv.host.floor),
       .about = "of the host tier that others leave alone"},
      {.section = "tenants.kv.host",
       .key = "ceiling",
       .kind = kAmount,
       .slot = TENANT_SLOT(kv.host.ceiling),
       .about = "of the host tier beyond which the tenant makes room at its own cost"},
      {.section = "tenants.kv.disk",
       .key = "floor",
       .kind = kAmount,
       .slot = TENANT_SLOT(kv.disk.floor),
       .about = "of the disk tier that others leave alone"},
      {.section = "tenants.kv.disk",
       .key = "ceiling",
       .kind = kAmount,
       .slot = TENANT_SLOT(kv.disk.ceiling),
       .about = "of the disk tier beyond which the tenant makes room at its own cost"},
  };
}
#undef DAEMON_SLOT
#undef TLS_SLOT
#undef TENANT_SLOT

absl::Status Wanted(std::string_view what, std::string_view found) {
  return absl::InvalidArgumentError(Concat("wanted ", what, ", found `", found.substr(0, 80), "`"));
}

bool HasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); });
}

absl::Status CheckText(std::string_view text) {
  if (text.empty()) return Wanted("some text", text);
  if (text.size() > kTextBytesMax) {
    return absl::InvalidArgumentError(
        Concat("wanted at most ", kTextBytesMax, " bytes, found ", text.size()));
  }
  if (HasControlCharacter(text)) {
    return absl::InvalidArgumentError("wanted text without control characters");
  }
  return absl::OkStatus();
}

absl::Status CheckName(std::string_view text) {
  const bool fits = !text.empty() && text.size() <= kNameBytesMax &&
                    absl::ascii_isalnum(static_cast<unsigned char>(text.front())) &&
                    std::all_of(text.begin(), text.end(), [](char c) {
                      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
                             c == '_' || c == '-';
                    });
  if (fits) return absl::OkStatus();
  return Wanted(Concat("1 to ", kNameBytesMax,
                       " letters, digits, `.`, `_` or `-`, the first a letter or digit"),
                text);
}

absl::StatusOr<int64_t> ReadInteger(const Setting& setting, std::string_view text) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(AbslView(text), &value) || value < setting.least || value > setting.most) {
    return Wanted(Concat("a whole number from ", setting.least, " to ", setting.most), text);
  }
  return value;
}

absl::StatusOr<double> ReadNumber(const Setting& setting, std::string_view text) {
  double value = 0;
  const auto least = static_cast<double>(setting.least), most = static_cast<double>(setting.most);
  const bool read = absl::SimpleAtod(AbslView(text), &value);
  // Written so that NaN is out of every range.
  const bool in_range = value >= least && value <= most && !(setting.above_least && value == least);
  if (read && in_range) return value;
  return Wanted(Concat("a number ", setting.above_least ? "above " : "from ", setting.least, " to ",
                       setting.most),
                text);
}

absl::StatusOr<int64_t> ReadBytes(const Setting& setting, std::string_view text) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},      {"B", 1},      {"KB", 1e3},      {"MB", 1e6},      {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1 << 30}, {"TiB", 1099511627776.0},
  };
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view unit =
      text.substr(std::min(text.find_first_not_of(" ", digits), text.size()));
  double number = 0;
  const auto* found = std::find_if(std::begin(kUnits), std::end(kUnits),
                                   [&](const auto& known) { return known.first == unit; });
  // A part of a byte is no size: `0.5` was meant as a share, or has lost its unit.
  const bool has_point = text.substr(0, digits).find('.') != std::string_view::npos;
  if (found != std::end(kUnits) && (found->second > 1 || !has_point) &&
      absl::SimpleAtod(AbslView(text.substr(0, digits)), &number)) {
    const double bytes = std::floor(number * found->second);
    if (bytes >= static_cast<double>(setting.least) && bytes <= static_cast<double>(setting.most)) {
      return static_cast<int64_t>(bytes);
    }
  }
  return Wanted(Concat("a size such as 4GiB, from ", setting.least, " to ", setting.most, " bytes"),
                text);
}

absl::StatusOr<TierAmount> ReadAmount(const Setting& setting, std::string_view text) {
  if (text.ends_with('%')) {
    double percent = 0;
    if (absl::SimpleAtod(AbslView(text.substr(0, text.size() - 1)), &percent) && percent >= 0 &&
        percent <= 100) {
      return TierAmount{.share = percent / 100};
    }
  } else {
    Setting bytes = setting;
    bytes.most = int64_t{1} << 50;
    if (const auto read = ReadBytes(bytes, text); read.ok()) return TierAmount{.bytes = *read};
  }
  return Wanted("a share from 0% to 100%, or a size such as 4GiB", text);
}

absl::StatusOr<absl::Duration> ReadDuration(const Setting& setting, std::string_view text) {
  absl::Duration value;
  if (!absl::ParseDuration(AbslView(text), &value) || value < absl::Milliseconds(setting.least) ||
      value > absl::Milliseconds(setting.most)) {
    return Wanted(Concat("a time with its unit, such as 30s or 10m, from ",
                         absl::FormatDuration(absl::Milliseconds(setting.least)), " to ",
                         absl::FormatDuration(absl::Milliseconds(setting.most))),
                  text);
  }
  return value;
}

absl::StatusOr<bool> ReadBool(std::string_view text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return Wanted("true or false", text);
}

absl::StatusOr<KeyHash> ReadKeyHash(std::string_view text) {
  std::string_view digits = text;
  const bool named = digits.starts_with(kHashPrefix);
  if (named) digits.remove_prefix(kHashPrefix.size());
  const bool is_hash =
      named && digits.size() == 64 && std::all_of(digits.begin(), digits.end(), [](char c) {
        return absl::ascii_isxdigit(static_cast<unsigned char>(c));
      });
  // What stands there may be the key itself by mistake: it is not repeated.
  if (!is_hash) {
    return absl::InvalidArgumentError(
        "wanted sha256: and 64 hex digits, as `holdfast keys new` prints them, and found "
        "something else; never write the key itself");
  }
  return KeyHash{.sha256_hex = absl::AsciiStrToLower(AbslView(digits))};
}

// The text of a text-like setting, checked.
absl::Status CheckTextKind(const Setting& setting, std::string_view text) {
  if (setting.may_be_empty && text.empty()) return absl::OkStatus();
  switch (setting.kind) {
    case SettingKind::kName:
      return CheckName(text);
    case SettingKind::kEndpoint:
      return ParseEndpoint(text).status();
    case SettingKind::kServer:
      return ParseRemoteEndpoint(text).status();
    case SettingKind::kChoice:
      if (std::count(setting.choices.begin(), setting.choices.end(), text) == 0) {
        return Wanted(ConcatList(setting.choices, " | "), text);
      }
      return absl::OkStatus();
    default:
      return CheckText(text);
  }
}

}  // namespace

std::span<const SettingSection> SettingSections() {
  static constexpr SettingSection kSections[] = {
      {"listen", "where clients reach the daemon"},
      {"listen.tls", "TLS for both ports; without it they speak plain text"},
      {"model", "what is served"},
      {"engine", "how it is computed"},
      {"kv", "where KV goes that leaves the device"},
      {"kv.disk", "the tier on disk, which survives a restart; none without a path"},
      {"kv.remote", "blocks shared with other daemons; none without a url"},
      {"scheduler", "who runs, and how many"},
      {"server", "connections and their times"},
      {"log", "lines on standard error"},
      {"tenants", "who may use the daemon; none: everyone on loopback, as tenant `default`", true},
      {"tenants.kv", "what the tenant may keep of the KV cache; amounts are 25% or bytes"},
      {"tenants.kv.device", "of the device"},
      {"tenants.kv.host", "of kv.host_bytes"},
      {"tenants.kv.disk", "of kv.disk.bytes"},
  };
  return kSections;
}

std::span<const Setting> Settings() {
  static const std::vector<Setting>* const settings = new std::vector<Setting>(MakeSettings());
  return *settings;
}

absl::Status ReadSetting(const Setting& setting, std::string_view text, const SettingSlot& slot) {
  switch (setting.kind) {
    case SettingKind::kBool: {
      ASSIGN_OR_RETURN(*std::get<bool*>(slot), ReadBool(text));
      return absl::OkStatus();
    }
    case SettingKind::kInteger: {
      ASSIGN_OR_RETURN(const int64_t value, ReadInteger(setting, text));
      if (auto* const* plain = std::get_if<int32_t*>(&slot)) {
        **plain = static_cast<int32_t>(value);
      } else if (auto* const* wide = std::get_if<int64_t*>(&slot)) {
        **wide = value;
      } else {
        *std::get<std::optional<int32_t>*>(slot) = static_cast<int32_t>(value);
      }
      return absl::OkStatus();
    }
    case SettingKind::kNumber: {
      ASSIGN_OR_RETURN(*std::get<double*>(slot), ReadNumber(setting, text));
      return absl::OkStatus();
    }
    case SettingKind::kBytes: {
      ASSIGN_OR_RETURN(*std::get<std::optional<int64_t>*>(slot), ReadBytes(setting, text));
      return absl::OkStatus();
    }
    case SettingKind::kAmount: {
      ASSIGN_OR_RETURN(*std::get<std::optional<TierAmount>*>(slot), ReadAmount(setting, text));
      return absl::OkStatus();
    }
    case SettingKind::kDuration: {
      ASSIGN_OR_RETURN(*std::get<absl::Duration*>(slot), ReadDuration(setting, text));
      return absl::OkStatus();
    }
    case SettingKind::kTexts: {
      RETURN_IF_ERROR(CheckText(text));
      std::get<std::vector<std::string>*>(slot)->emplace_back(text);
      return absl::OkStatus();
    }
    case SettingKind::kKeyHashes: {
      ASSIGN_OR_RETURN(KeyHash hash, ReadKeyHash(text));
      std::get<std::vector<KeyHash>*>(slot)->push_back(std::move(hash));
      return absl::OkStatus();
    }
    case SettingKind::kText:
    case SettingKind::kName:
    case SettingKind::kEndpoint:
    case SettingKind::kServer:
    case SettingKind::kChoice: {
      RETURN_IF_ERROR(CheckTextKind(setting, text));
      if (auto* const* plain = std::get_if<std::string*>(&slot)) {
        **plain = std::string(text);
      } else {
        *std::get<std::optional<std::string>*>(slot) = std::string(text);
      }
      return absl::OkStatus();
    }
  }
  CHECK(false);
  return absl::InternalError("unreachable");
}

}  // namespace holdfast
