#include "config/daemon_config.h"

#include <fstream>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "config/base/concat.h"
#include "config/daemon_config_table.h"
#include "config/scheduler_policy.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kHashA[] = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
constexpr char kHashB[] = "sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";

std::string FileText(const std::string& path) {
  std::ifstream file(std::string(HOLDFAST_SOURCE_DIR "/") + path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string Faults(std::string_view yaml) {
  const auto config = ParseDaemonConfig(yaml, "f.yaml");
  if (config.ok()) return "";
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(config.status().message());
}

TEST(DaemonConfigTest, AnEmptyFileMeansTheDefaults) {
  for (const char* yaml : {"", "# nothing\n", "---\n", "{}", "listen:\nserver: {}\n"}) {
    SCOPED_TRACE(yaml);
    const auto config = ParseDaemonConfig(yaml, "f.yaml");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->listen.http, "127.0.0.1:8080");
    EXPECT_EQ(config->listen.grpc, "127.0.0.1:50051");
    EXPECT_EQ(config->scheduler.running_max, 64);
    EXPECT_EQ(config->server.drain_notice, absl::ZeroDuration());
    EXPECT_EQ(config->server.drain_timeout, absl::Seconds(30));
    EXPECT_FALSE(config->engine.kv_device_bytes.has_value());
    EXPECT_TRUE(config->tenants.empty());
  }
}

TEST(DaemonConfigTest, EverySettingIsRead) {
  const auto config =
      ParseDaemonConfig(Concat(R"(
listen:
  http: "[::1]:0"
  grpc:
  allow_anonymous: true
  tls: {certificate_path: /c.pem, key_path: /k.pem}
model: {path: /m.gguf, name: m, aliases: [a, b], weights: f32, activations: 16bit}
engine: {threads: 3, isa: avx2, kv_dtype: f32, kv_device_bytes: 4GiB, context_tokens: 2048}
scheduler: {running_max: 2, waiting_max: 3, step_tokens_max: 64, chunk_tokens_max: 7,
            prefix_cache: false, policy: plas, order: hit_rate, bypass_max: 5, ageing_time: 3s,
            pin_window: 4, speculation: always, draft_tokens_max: 5, queue_wait_max: 7s, step_time_max: 8ms,
            offline_step_tokens_max: 9, long_prefill_tokens_max: 11}
server: {text_threads: 1, http_connections_max: 9, drain_notice: 2s, drain_timeout: 500ms,
         request_timeout: 1h30m}
log: {level: debug, format: json}
tenants:
  - {name: blue, keys: [")",
                               kHashA, R"("], sharing_group: g, running_max: 4, waiting_max: 5,
     weight: 2.5, priority_max: -3, requests_per_second: 0.25, requests_burst: 6,
     tokens_per_minute: 3000000000, tokens_burst: 7}
)"),
                        "f.yaml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen.http, "[::1]:0");
  EXPECT_EQ(config->listen.grpc, "");
  EXPECT_TRUE(config->listen.allow_anonymous);
  ASSERT_TRUE(config->listen.tls.has_value());
  EXPECT_EQ(config->listen.tls->certificate_path, "/c.pem");
  EXPECT_EQ(config->listen.tls->key_path, "/k.pem");
  EXPECT_EQ(config->model.path, "/m.gguf");
  EXPECT_EQ(config->model.name, "m");
  EXPECT_THAT(config->model.aliases, ElementsAre("a", "b"));
  EXPECT_EQ(config->model.weights, "f32");
  EXPECT_EQ(config->model.activations, "16bit");
  EXPECT_EQ(config->engine.threads, 3);
  EXPECT_EQ(config->engine.isa, "avx2");
  EXPECT_EQ(config->engine.kv_dtype, "f32");
  EXPECT_EQ(config->engine.kv_device_bytes, int64_t{4} << 30);
  EXPECT_EQ(config->engine.context_tokens, 2048);
  EXPECT_EQ(config->scheduler.running_max, 2);
  EXPECT_EQ(config->scheduler.waiting_max, 3);
  EXPECT_EQ(config->scheduler.step_tokens_max, 64);
  EXPECT_EQ(config->scheduler.chunk_tokens_max, 7);
  EXPECT_FALSE(config->scheduler.prefix_cache);
  EXPECT_EQ(config->server.text_threads, 1);
  EXPECT_EQ(config->server.http_connections_max, 9);
  EXPECT_EQ(config->server.drain_notice, absl::Seconds(2));
  EXPECT_EQ(config->server.drain_timeout, absl::Milliseconds(500));
  EXPECT_EQ(config->server.request_timeout, absl::Minutes(90));
  EXPECT_EQ(config->log.level, "debug");
  EXPECT_EQ(config->log.format, "json");
  ASSERT_EQ(config->tenants.size(), 1u);
  EXPECT_EQ(config->tenants[0].name, "blue");
  EXPECT_EQ(Concat("sha256:", config->tenants[0].keys.at(0).sha256_hex), kHashA);
  EXPECT_EQ(config->tenants[0].sharing_group, "g");
  EXPECT_EQ(config->tenants[0].running_max, 4);
  EXPECT_EQ(config->tenants[0].waiting_max, 5);
  EXPECT_EQ(config->scheduler.policy, "plas");
  EXPECT_EQ(config->scheduler.order, "hit_rate");
  EXPECT_EQ(config->scheduler.bypass_max, 5);
  EXPECT_EQ(config->scheduler.pin_window, 4);
  EXPECT_EQ(config->scheduler.speculation, "always");
  EXPECT_EQ(config->scheduler.draft_tokens_max, 5);
  EXPECT_EQ(config->scheduler.ageing_time, absl::Seconds(3));
  EXPECT_EQ(config->scheduler.queue_wait_max, absl::Seconds(7));
  EXPECT_EQ(config->scheduler.step_time_max, absl::Milliseconds(8));
  EXPECT_EQ(config->scheduler.offline_step_tokens_max, 9);
  EXPECT_EQ(config->scheduler.long_prefill_tokens_max, 11);
  EXPECT_EQ(config->tenants[0].weight, 2.5);
  EXPECT_EQ(config->tenants[0].priority_max, -3);
  EXPECT_EQ(config->tenants[0].requests_per_second, 0.25);
  EXPECT_EQ(config->tenants[0].requests_burst, 6);
  EXPECT_EQ(config->tenants[0].tokens_per_minute, 3'000'000'000);
  EXPECT_EQ(config->tenants[0].tokens_burst, 7);
}

TEST(DaemonConfigTest, EveryPolicyAndOrderThatMayBeChosenIsKnownByItsName) {
  const DaemonConfig::SchedulerSettings defaults;
  EXPECT_EQ(SchedulerPolicyOf(defaults.policy), SchedulerPolicy::kContinuum);
  EXPECT_EQ(WaitOrderOf(defaults.order), WaitOrder::kRemainingWork);
  for (const std::string_view name : kSchedulerPolicyNames) {
    ASSERT_TRUE(SchedulerPolicyOf(name).has_value()) << name;
    EXPECT_EQ(Name(*SchedulerPolicyOf(name)), name);
  }
  for (const std::string_view name : kWaitOrderNames) {
    ASSERT_TRUE(WaitOrderOf(name).has_value()) << name;
    EXPECT_EQ(Name(*WaitOrderOf(name)), name);
  }
  EXPECT_FALSE(SchedulerPolicyOf("fifo").has_value());
}

TEST(DaemonConfigTest, ANumberOutOfItsRangeIsNamedWithIt) {
  const auto faults_of = [](std::string_view tenant) {
    return Faults(Concat("tenants:\n  - name: a\n    keys: [\"", kHashA, "\"]\n    ", tenant));
  };
  for (const char* weight : {"0", "-1", "nan", "inf", "much", "1000001"}) {
    EXPECT_THAT(faults_of(Concat("weight: ", weight)),
                HasSubstr(Concat("f.yaml:4: `tenants.weight`: wanted a number above 0 to 1000000, "
                                 "found `",
                                 weight, "`")));
  }
  EXPECT_EQ(faults_of("weight: 1e-3"), "");
  EXPECT_THAT(faults_of("requests_per_second: -0.5"),
              HasSubstr("wanted a number from 0 to 1000000, found `-0.5`"));
  EXPECT_EQ(faults_of("requests_per_second: 0"), "");
}

TEST(DaemonConfigTest, ABurstOfWhatIsNotBoundedIsAFault) {
  const std::string yaml = Concat("tenants:\n  - name: a\n    keys: [\"", kHashA,
                                  "\"]\n    requests_burst: 3\n    tokens_burst: 4\n");
  EXPECT_THAT(Faults(yaml),
              AllOf(HasSubstr("tenant `a` has a requests_burst without requests_per_second"),
                    HasSubstr("tenant `a` has a tokens_burst without tokens_per_minute")));
}

TEST(DaemonConfigTest, SizesMayHaveUnits) {
  const struct {
    const char* text;
    int64_t bytes;
  } kCases[] = {{"2000000", 2'000'000},  {"4GiB", int64_t{4} << 30},
                {"1.5 GiB", 1610612736}, {"512MiB", int64_t{512} << 20},
                {"2MB", 2'000'000},      {"1TB", 1'000'000'000'000},
                {"1048576B", 1 << 20}};
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.text);
    const auto config =
        ParseDaemonConfig(Concat("engine: {kv_device_bytes: ", c.text, "}"), "f.yaml");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->engine.kv_device_bytes, c.bytes);
  }
}

// Each row: a file with one fault, and what its message must say.
TEST(DaemonConfigTest, EachFaultNamesItsLineWhatWasWantedAndWhatWasFound) {
  const std::string a = kHashA;
  const struct {
    std::string yaml;
    std::string message;
  } kCases[] = {
      // A share that lacks its % would be a part of a byte.
      {"tenants:\n  - name: a\n    keys: [\"" + a + "\"]\n    kv: {pinned_max: 0.5}\n",
       "f.yaml:4: `tenants.kv.pinned_max`: wanted a share from 0% to 100%, or a size such as 4GiB, "
       "found `0.5`"},
      {"engine:\n  kv_device_bytes: 2000000.5\n",
       "f.yaml:2: `engine.kv_device_bytes`: wanted a size such as 4GiB, from 1048576 to "
       "1125899906842624 bytes, found `2000000.5`"},
      // Keys.
      {"modle:\n  path: x\n", "f.yaml:1: unknown key `modle`; did you mean `model`?"},
      {"listen:\n  htpt: x\n", "f.yaml:2: unknown key `listen.htpt`; did you mean `http`?"},
      {"server:\n\n  drain_tiemout: 3s\n",
       "f.yaml:3: unknown key `server.drain_tiemout`; did you mean `drain_timeout`?"},
      {"kv_dtype: f16\n", "f.yaml:1: unknown key `kv_dtype`; did you mean `engine.kv_dtype`?"},
      {"tls: {}\n", "f.yaml:1: unknown key `tls`; did you mean `listen.tls`?"},
      {"log:\n  colour: red\n", "f.yaml:2: unknown key `log.colour`; known here: level, format"},
      {"log: {level: info}\nlog: {level: warn}\n", "f.yaml:2: `log` stands twice"},
      {"log:\n  level: info\n  level: warn\n", "f.yaml:3: `log.level` stands twice"},
      {"? [a, b]\n: c\n", "f.yaml:1: a key of the file must be plain text"},
      // Shapes.
      {"- a\n", "f.yaml:1: the file must hold `key: value` lines"},
      {"listen: 8080\n", "f.yaml:1: `listen` must hold `key: value` lines"},
      {"engine:\n  threads: [1]\n", "f.yaml:2: `engine.threads` must be a single value"},
      {"engine:\n  threads:\n",
       "f.yaml:2: `engine.threads` has no value; give one or remove the line"},
      {"model:\n  aliases: a\n", "f.yaml:2: `model.aliases` must be a list"},
      {"model:\n  aliases: [a, [b]]\n",
       "f.yaml:2: an entry of `model.aliases` must be a single value"},
      {"model:\n  aliases: [a, a]\n", "f.yaml:2: an entry of `model.aliases` stands twice"},
      {"--- \nlog: {}\n---\nlog: {}\n", "f.yaml: holds several YAML documents (`---`); wanted one"},
      {"a: [\n", "f.yaml:2: not YAML: end of sequence flow not found"},
      {"log: *nowhere\n", "f.yaml:1: not YAML: the referenced anchor is not defined"},
      // Values.
      {"engine:\n  threads: many\n",
       "f.yaml:2: `engine.threads`: wanted a whole number from 0 to 1024, found `many`"},
      {"engine:\n  threads: 2000\n",
       "f.yaml:2: `engine.threads`: wanted a whole number from 0 to 1024, found `2000`"},
      {"scheduler:\n  running_max: -1\n",
       "f.yaml:2: `scheduler.running_max`: wanted a whole number from 1 to 4096, found `-1`"},
      {"scheduler:\n  running_max: 1.5\n",
       "f.yaml:2: `scheduler.running_max`: wanted a whole number from 1 to 4096, found `1.5`"},
      {"scheduler:\n  waiting_max: 99999999999999999999\n",
       "f.yaml:2: `scheduler.waiting_max`: wanted a whole number from 1 to 1000000, found "
       "`99999999999999999999`"},
      {"scheduler:\n  prefix_cache: yes\n",
       "f.yaml:2: `scheduler.prefix_cache`: wanted true or false, found `yes`"},
      {"engine:\n  isa: sse\n",
       "f.yaml:2: `engine.isa`: wanted auto | scalar | avx2 | avx512-vnni | avx512-bf16 | "
       "avx512-amx, found "
       "`sse`"},
      {"engine:\n  kv_device_bytes: lots\n",
       "f.yaml:2: `engine.kv_device_bytes`: wanted a size such as 4GiB, from 1048576 to "
       "1125899906842624 bytes, found `lots`"},
      {"server:\n  drain_timeout: 30\n",
       "f.yaml:2: `server.drain_timeout`: wanted a time with its unit, such as 30s or 10m, from 0 "
       "to 24h, found `30`"},
      {"server:\n  request_timeout: inf\n",
       "f.yaml:2: `server.request_timeout`: wanted a time with its unit, such as 30s or 10m, from "
       "100ms to 24h, found `inf`"},
      {"kv:\n  remote:\n    url: cache\n",
       "f.yaml:3: `kv.remote.url`: wanted a server as host:port, [IPv6 address]:port or unix:PATH, "
       "found `cache`"},
      {"kv: {remote: {password_path: x}}\n", "f.yaml: kv.remote needs a url"},
      {"tracing: {otlp_http: 'http://collector:4318'}\n",
       "f.yaml:1: `tracing.otlp_http`: wanted a server as host:port, [IPv6 address]:port or "
       "unix:PATH, found `http://collector:4318`"},
      {"tracing: {otlp_http: 'unix:/collector'}\n",
       "f.yaml: tracing.otlp_http wants a collector as host:port, found `unix:/collector`"},
      {"tracing: {otlp_http: 'redis://collector:4318'}\n",
       "f.yaml: tracing.otlp_http wants a collector as host:port, found `redis://collector:4318`"},
      {"tracing: {sample_ratio: 1.5}\n",
       "f.yaml:1: `tracing.sample_ratio`: wanted a number from 0 to 1, found `1.5`"},
      {"kv: {remote: {url: 'a:1', username: x}}\n",
       "f.yaml: kv.remote.username needs a password_path"},
      {"kv: {events: {endpoint: '127.0.0.1:1'}}\n",
       "f.yaml: kv.events.endpoint: wanted tcp://ADDR:PORT or ipc://PATH, found `127.0.0.1:1`"},
      {"kv: {events: {endpoint: 'tcp://*:5557', allow_network: true}}\n",
       "f.yaml: kv.events.endpoint: `*:5557` is not an address and port (the address must be in "
       "numbers, or localhost); write 127.0.0.1:8080"},
      {"kv: {events: {endpoint: 'ipc:///a', replay_endpoint: 'tcp://0.0.0.0:5558'}}\n",
       "f.yaml: kv.events.replay_endpoint: `tcp://0.0.0.0:5558` is not loopback, and events hold "
       "every tenant's tokens; set kv.events.allow_network if only the router reaches it"},
      {"kv: {events: {replay_endpoint: 'ipc:///a'}}\n",
       "f.yaml: kv.events.replay_endpoint needs an endpoint"},
      {"listen:\n  http: 8080\n",
       "f.yaml:2: `listen.http`: `8080` is not an address and port (there is no colon); write "
       "127.0.0.1:8080"},
      {"listen:\n  http: example.org:80\n",
       "f.yaml:2: `listen.http`: `example.org:80` is not an address and port (the address must be "
       "in numbers, or localhost); write 127.0.0.1:8080"},
      {"listen:\n  http: ''\n",
       "f.yaml:2: `listen.http`: `` is not an address and port (there is no colon); write "
       "127.0.0.1:8080"},
      {"model:\n  name: \"a\\nb\"\n",
       "f.yaml:2: `model.name`: wanted text without control characters"},
      // Between settings.
      {"listen: {http: 127.0.0.1:1, grpc: 127.0.0.1:1}\n",
       "f.yaml: listen.http and listen.grpc are both 127.0.0.1:1; give them different ports"},
      {Concat("listen:\n  http: 127.0.0.1:8081\nadmin:\n  keys: [\"sha256:", std::string(64, 'a'),
              "\"]\n"),
       "f.yaml: admin.http and listen.http are both 127.0.0.1:8081; give them different ports"},
      {"scheduler: {running_max: 64, step_tokens_max: 8}\n",
       "f.yaml: scheduler.running_max is 64 and scheduler.step_tokens_max is 8; each running "
       "sequence needs a token of every step"},
      {"listen:\n  tls: {key_path: /k}\n", "f.yaml:2: `listen.tls.certificate_path` is missing"},
      // Tenants.
      {"tenants:\n", "f.yaml:1: `tenants` must be a list; without tenants remove it"},
      {"tenants:\n  - blue\n", "f.yaml:2: `tenants` must hold `key: value` lines"},
      {"tenants:\n  - name: blue\n", "f.yaml:2: `tenants.keys` is missing"},
      {"tenants:\n  - {name: blue, keys: []}\n",
       "f.yaml:2: `tenants.keys` has 0 entries; wanted 1 to 64"},
      {"tenants:\n  - keys: [\"" + a + "\"]\n", "f.yaml:2: `tenants.name` is missing"},
      {"tenants:\n  - {name: a b, keys: [\"" + a + "\"]}\n",
       "f.yaml:2: `tenants.name`: wanted 1 to 64 letters, digits, `.`, `_` or `-`, the first a "
       "letter or digit, found `a b`"},
      {"tenants:\n  - {name: a, keys: [\"" + a + "\"]}\n  - {name: a, keys: [\"" + kHashB +
           "\"]}\n",
       "f.yaml:3: tenant `a` stands twice, first in line 2"},
      {"tenants:\n  - {name: a, keys: [\"" + a + "\"]}\n  - {name: b, keys: [\"" + a + "\"]}\n",
       "f.yaml:3: tenants `a` and `b` have a key in common; each needs its own"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.yaml);
    EXPECT_EQ(Faults(c.yaml), c.message);
  }
}

TEST(DaemonConfigTest, AKeyWrittenByMistakeForItsHashIsNotRepeated) {
  const std::string faults = Faults("tenants:\n  - {name: a, keys: [hf-SECRETSECRET]}\n");
  EXPECT_THAT(faults, AllOf(StartsWith("f.yaml:2: `tenants.keys`: wanted sha256:"),
                            Not(HasSubstr("SECRET"))));
}

TEST(DaemonConfigTest, AllFaultsComeInOneMessageInTheOrderOfTheirLines) {
  EXPECT_EQ(Faults("log: {format: xml}\nmodle: {}\nengine: {threads: -1}\n"),
            "f.yaml:1: `log.format`: wanted text | json, found `xml`\n"
            "f.yaml:2: unknown key `modle`; did you mean `model`?\n"
            "f.yaml:3: `engine.threads`: wanted a whole number from 0 to 1024, found `-1`");
}

TEST(DaemonConfigTest, FaultsAreBoundedInNumber) {
  std::string yaml;
  for (int i = 0; i < 500; ++i) yaml += Concat("key_number_", i, ": 1\n");
  EXPECT_THAT(Faults(yaml), HasSubstr("\nand 400 more faults"));
}

TEST(DaemonConfigTest, HugeDeepAndCircularFilesAreRefusedSoon) {
  EXPECT_THAT(Faults(std::string((1 << 20) + 1, '#')), HasSubstr("more than 1048576 bytes"));
  EXPECT_THAT(Faults(std::string(100'000, '[')), HasSubstr("f.yaml:1: not YAML"));
  EXPECT_THAT(Faults("model: &m\n  aliases: [*m]\n"),
              HasSubstr("f.yaml:1: an entry of `model.aliases` must be"));
  EXPECT_THAT(Faults(std::string("log: {}\0", 8)), HasSubstr("zero byte"));
  // Doubling aliases: 2^20 leaves if anyone walked them.
  std::string doubling = "a0: &a0 [x, x]\n";
  for (int i = 1; i <= 20; ++i) {
    doubling += Concat("a", i, ": &a", i, " [*a", i - 1, ", *a", i - 1, "]\n");
  }
  EXPECT_THAT(Faults(doubling), HasSubstr("unknown key `a20`"));
}

TEST(DaemonConfigTest, AFileThatIsNotThereIsNamed) {
  const auto config = LoadDaemonConfig("/nowhere/holdfast.yaml");
  EXPECT_EQ(config.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("/nowhere/holdfast.yaml"));
  EXPECT_FALSE(LoadDaemonConfig("/").ok());
}

TEST(DaemonConfigTest, FlagsOverrideSingleSettingsAndLeaveThemOnError) {
  DaemonConfig config;
  EXPECT_TRUE(OverrideSetting("listen.http", "0.0.0.0:1", config).ok());
  EXPECT_TRUE(OverrideSetting("engine.kv_device_bytes", "1GiB", config).ok());
  EXPECT_TRUE(OverrideSetting("listen.tls.key_path", "/k", config).ok());
  EXPECT_EQ(config.listen.http, "0.0.0.0:1");
  EXPECT_EQ(config.engine.kv_device_bytes, int64_t{1} << 30);
  EXPECT_FALSE(CheckDaemonConfig(config).ok());  // a TLS key without its certificate
  EXPECT_TRUE(OverrideSetting("listen.tls.certificate_path", "/c", config).ok());
  EXPECT_TRUE(CheckDaemonConfig(config).ok());

  EXPECT_FALSE(OverrideSetting("listen.http", "nonsense", config).ok());
  EXPECT_EQ(config.listen.http, "0.0.0.0:1");
  for (const char* path :
       {"", "http", "listen.", "listen.nothing", "tenants.name", "model.aliases"}) {
    SCOPED_TRACE(path);
    EXPECT_EQ(OverrideSetting(path, "x", config).code(), absl::StatusCode::kNotFound);
  }
}

TEST(DaemonConfigTest, TheExampleFileIsValidAndShowsEverySetting) {
  const std::string text = FileText("deploy/holdfast.example.yaml");
  const auto config = ParseDaemonConfig(text, "example");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->tenants.size(), 2u);
  for (const Setting& setting : Settings()) {
    EXPECT_THAT(text, HasSubstr(Concat(setting.key, ":"))) << setting.section;
  }
  // The values shown as defaults are the defaults.
  const DaemonConfig defaults;
  EXPECT_EQ(config->listen.http, defaults.listen.http);
  EXPECT_EQ(config->listen.grpc, defaults.listen.grpc);
  EXPECT_EQ(config->scheduler.waiting_max, defaults.scheduler.waiting_max);
  EXPECT_EQ(config->scheduler.step_tokens_max, defaults.scheduler.step_tokens_max);
  EXPECT_EQ(config->server.http_connections_max, defaults.server.http_connections_max);
  EXPECT_EQ(config->server.request_timeout, defaults.server.request_timeout);
}

TEST(DaemonConfigTest, TheShippedSchemaIsTheOneOfTheTable) {
  EXPECT_EQ(FileText("config/daemon_config.schema.json"), DaemonConfigSchema())
      << "make it anew: holdfast check-config --print-schema > config/daemon_config.schema.json";
}

TEST(DaemonConfigTest, TheSchemaKnowsTheKeysThatTheParserKnowsAndNoOthers) {
  const auto schema = nlohmann::json::parse(DaemonConfigSchema(), nullptr, false);
  ASSERT_FALSE(schema.is_discarded());
  std::set<std::string> in_schema;
  const auto walk = [&](const auto& self, const nlohmann::json& node,
                        const std::string& path) -> void {
    const nlohmann::json& object = node.contains("items") ? node["items"] : node;
    if (!object.contains("properties")) {
      in_schema.insert(path);
      return;
    }
    EXPECT_EQ(object["additionalProperties"], false) << path;
    for (const auto& [key, child] : object["properties"].items()) {
      self(self, child, path.empty() ? key : path + "." + key);
    }
  };
  walk(walk, schema, "");

  std::set<std::string> in_table;
  for (const Setting& setting : Settings()) {
    in_table.insert(Concat(setting.section, ".", setting.key));
    EXPECT_FALSE(setting.about.empty()) << setting.key;
  }
  EXPECT_EQ(in_schema, in_table);
}

// Whatever stands in the file, the answer is a config or a message: never a crash. Mutates the
// example; the seed replays a failure.
TEST(DaemonConfigTest, BrokenFilesAreAnsweredWithAMessage) {
  const std::string example = FileText("deploy/holdfast.example.yaml");
  constexpr std::string_view kBytes =
      "[]{}:,-&*#?|>'\"%@`!\n \t\\\xff\x01"
      "09az";
  for (uint32_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::string text = example;
    for (uint32_t n = 1 + rng() % 8; n > 0; --n) {
      const size_t at = rng() % text.size();
      switch (rng() % 3) {
        case 0:
          text[at] = kBytes[rng() % kBytes.size()];
          break;
        case 1:
          text.insert(at, 1, kBytes[rng() % kBytes.size()]);
          break;
        default:
          text.erase(at, 1 + rng() % 20);
      }
    }
    const auto config = ParseDaemonConfig(text, "f.yaml");
    if (!config.ok()) {
      EXPECT_THAT(std::string(config.status().message()), StartsWith("f.yaml"));
    }
  }
}

}  // namespace
}  // namespace holdfast
