#include "config/daemon_config.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/base/concat.h"
#include "config/daemon_config_table.h"
#include "config/endpoint.h"
#include "config/nearest_name.h"
#include "config/read_setting.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/yaml.h"

namespace holdfast {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;
constexpr size_t kFaultsMax = 100;

const Setting* FindSetting(std::string_view section, std::string_view key) {
  for (const Setting& setting : Settings()) {
    if (setting.section == section && setting.key == key) return &setting;
  }
  return nullptr;
}

const SettingSection* FindSection(std::string_view path) {
  for (const SettingSection& section : SettingSections()) {
    if (section.path == path) return &section;
  }
  return nullptr;
}

std::string Join(std::string_view section, std::string_view key) {
  return section.empty() ? std::string(key) : Concat(section, ".", key);
}

// The keys that may stand in a section: its settings and the sections within it.
std::vector<std::string_view> KnownKeys(std::string_view section) {
  std::vector<std::string_view> keys;
  for (const Setting& setting : Settings()) {
    if (setting.section == section) keys.push_back(setting.key);
  }
  for (const SettingSection& inner : SettingSections()) {
    const size_t dot = inner.path.rfind('.');
    const bool at_top = dot == std::string_view::npos;
    if ((at_top ? std::string_view() : inner.path.substr(0, dot)) == section) {
      keys.push_back(at_top ? inner.path : inner.path.substr(dot + 1));
    }
  }
  return keys;
}

bool IsListKind(SettingKind kind) {
  return kind == SettingKind::kTexts || kind == SettingKind::kKeyHashes;
}

void AddEventEndpointFaults(std::string_view setting, std::string_view text, bool allow_network,
                            std::vector<std::string>& faults) {
  constexpr std::string_view kTcp = "tcp://", kIpc = "ipc://";
  if (text.empty() || (text.starts_with(kIpc) && text.size() > kIpc.size())) return;
  if (!text.starts_with(kTcp)) {
    faults.push_back(Concat(setting, ": wanted tcp://ADDR:PORT or ipc://PATH, found `", text, "`"));
    return;
  }
  const absl::StatusOr<Endpoint> address = ParseEndpoint(text.substr(kTcp.size()));
  if (!address.ok()) {
    faults.push_back(Concat(setting, ": ", Concat(address.status().message())));
  } else if (!address->is_loopback && !allow_network) {
    faults.push_back(Concat(setting, ": `", text,
                            "` is not loopback, and events hold every tenant's tokens; set "
                            "kv.events.allow_network if only the router reaches it"));
  }
}

void AddEventFaults(const DaemonConfig::KvSettings::Events& events,
                    std::vector<std::string>& faults) {
  AddEventEndpointFaults("kv.events.endpoint", events.endpoint, events.allow_network, faults);
  AddEventEndpointFaults("kv.events.replay_endpoint", events.replay_endpoint, events.allow_network,
                         faults);
  if (events.endpoint.empty() && !events.replay_endpoint.empty()) {
    faults.push_back("kv.events.replay_endpoint needs an endpoint");
  }
  if (events.endpoint.starts_with("ipc://") && events.endpoint == events.replay_endpoint) {
    faults.push_back("kv.events: endpoint and replay_endpoint need a path each");
  }
}

void AddTracingFaults(const DaemonConfig& config, std::vector<std::string>& faults) {
  const std::string& otlp_http = config.tracing.otlp_http;
  if (otlp_http.starts_with("unix:") || otlp_http.find("://") != std::string::npos) {
    faults.push_back(Concat("tracing.otlp_http wants a collector as host:port, found `",
                            otlp_http.substr(0, 80), "`"));
  }
}

void AddKvFaults(const DaemonConfig& config, std::vector<std::string>& faults) {
  const DaemonConfig::KvSettings& kv = config.kv;
  if (kv.disk.path.empty() == kv.disk.bytes.has_value()) {
    faults.push_back("kv.disk needs both path and bytes");
  }
  if (kv.remote.url.empty() && !(kv.remote.username.empty() && kv.remote.password_path.empty())) {
    faults.push_back("kv.remote needs a url");
  }
  if (kv.remote.password_path.empty() && !kv.remote.username.empty()) {
    faults.push_back("kv.remote.username needs a password_path");
  }
  AddEventFaults(kv.events, faults);
  struct TierKeys {
    std::string_view name;
    TenantKvConfig::Tier TenantKvConfig::*tier;
    bool is_there;
  };
  const TierKeys tiers[] = {
      {"device", &TenantKvConfig::device, true},
      {"host", &TenantKvConfig::host, kv.host_bytes.value_or(0) > 0},
      {"disk", &TenantKvConfig::disk, !kv.disk.path.empty()},
  };
  for (const TierKeys& keys : tiers) {
    double floors = 0;
    for (const TenantConfig& tenant : config.tenants) {
      const TenantKvConfig::Tier& amounts = tenant.kv.*keys.tier;
      if ((amounts.floor || amounts.ceiling) && !keys.is_there) {
        faults.push_back(Concat("tenant `", tenant.name, "` has a part of the ", keys.name,
                                " tier, which is not there; set kv.", keys.name,
                                keys.name == "host" ? "_bytes" : ".path and kv.disk.bytes"));
      }
      if (!amounts.floor) continue;
      floors += amounts.floor->share;
      const TierAmount top = amounts.ceiling.value_or(TierAmount{.share = 1});
      if (amounts.floor->bytes.has_value() == top.bytes.has_value() &&
          (amounts.floor->share > top.share || amounts.floor->bytes > top.bytes)) {
        faults.push_back(
            Concat("tenant `", tenant.name, "` has a floor above its ceiling in kv.", keys.name));
      }
    }
    // By a hair: shares such as 33.3% do not add up exactly.
    if (floors > 1 + 1e-9) {
      faults.push_back(Concat("the tenants' floors in kv.", keys.name, " are ",
                              static_cast<int64_t>(floors * 100 + 0.5), "% together; wanted 100%",
                              " at most"));
    }
  }
}

void AddRateFaults(const DaemonConfig& config, std::vector<std::string>& faults) {
  for (const TenantConfig& tenant : config.tenants) {
    if (tenant.requests_burst > 0 && tenant.requests_per_second == 0) {
      faults.push_back(
          Concat("tenant `", tenant.name, "` has a requests_burst without requests_per_second"));
    }
    if (tenant.tokens_burst > 0 && tenant.tokens_per_minute == 0) {
      faults.push_back(
          Concat("tenant `", tenant.name, "` has a tokens_burst without tokens_per_minute"));
    }
  }
}

// One entry per sentence, in no order; each names its settings.
std::vector<std::string> FaultsBetweenSettings(const DaemonConfig& config) {
  std::vector<std::string> faults;
  const auto http = ParseEndpoint(config.listen.http);
  const auto grpc = ParseEndpoint(config.listen.grpc);
  if (http.ok() && grpc.ok() && http->port != 0 && http->port == grpc->port &&
      http->host == grpc->host) {
    faults.push_back(Concat("listen.http and listen.grpc are both ", config.listen.http,
                            "; give them different ports"));
  }
  const auto admin = ParseEndpoint(config.admin.http);
  for (const auto& [name, other] : {std::pair{"listen.http", &http}, {"listen.grpc", &grpc}}) {
    if (config.admin.keys.empty() || !admin.ok() || !other->ok() || admin->port == 0) continue;
    if (admin->port != (*other)->port || admin->host != (*other)->host) continue;
    faults.push_back(Concat("admin.http and ", name, " are both ", config.admin.http,
                            "; give them different ports"));
  }
  if (config.scheduler.running_max > config.scheduler.step_tokens_max) {
    faults.push_back(Concat("scheduler.running_max is ", config.scheduler.running_max,
                            " and scheduler.step_tokens_max is ", config.scheduler.step_tokens_max,
                            "; each running sequence needs a token of every step"));
  }
  AddKvFaults(config, faults);
  AddTracingFaults(config, faults);
  AddRateFaults(config, faults);
  return faults;
}

// Walks the YAML tree along the table of settings and collects every fault with its line. Never
// deeper than the table, whatever the file holds.
class ConfigReader final {
 public:
  explicit ConfigReader(const std::string& file_name) : file_name_(file_name) {}

  void ReadRoot(const YAML::Node& root) {
    ReadMap(root, "", SettingOwner{.daemon = &config_});
    for (std::string& fault : FaultsBetweenSettings(config_)) AddFault(0, std::move(fault));
  }

  void AddFault(int line, std::string what) {  // line from 1; 0: the file as a whole
    faults_.emplace(line, line > 0 ? Concat(file_name_, ":", line, ": ", what)
                                   : Concat(file_name_, ": ", what));
  }

  absl::StatusOr<DaemonConfig> Finish() && {
    if (faults_.empty()) return std::move(config_);
    std::vector<std::string> lines;
    for (const auto& [line, what] : faults_) {
      if (lines.size() == kFaultsMax) {
        lines.push_back(Concat("and ", faults_.size() - kFaultsMax, " more faults"));
        break;
      }
      lines.push_back(what);
    }
    return absl::InvalidArgumentError(ConcatList(lines, "\n"));
  }

 private:
  static int LineOf(const YAML::Node& node) { return node.Mark().line + 1; }

  void ReadMap(const YAML::Node& map, std::string_view section, const SettingOwner& owner) {
    const std::string name = section.empty() ? "the file" : Concat("`", section, "`");
    if (map.IsNull()) {
      CheckRequired(map, section, {});
      return;
    }
    if (!map.IsMap()) {
      AddFault(LineOf(map), Concat(name, " must hold `key: value` lines"));
      return;
    }
    std::set<std::string> seen;
    for (const auto& entry : map) {
      if (!entry.first.IsScalar()) {
        AddFault(LineOf(entry.first), Concat("a key of ", name, " must be plain text"));
        continue;
      }
      const std::string& key = entry.first.Scalar();
      if (!seen.insert(key).second) {
        AddFault(LineOf(entry.first), Concat("`", Join(section, key), "` stands twice"));
        continue;
      }
      ReadEntry(entry.first, entry.second, section, owner);
    }
    CheckRequired(map, section, seen);
  }

  void CheckRequired(const YAML::Node& map, std::string_view section,
                     const std::set<std::string>& seen) {
    for (const Setting& setting : Settings()) {
      if (setting.section == section && setting.required &&
          seen.count(std::string(setting.key)) == 0) {
        AddFault(LineOf(map), Concat("`", Join(section, setting.key), "` is missing"));
      }
    }
  }

  void ReadEntry(const YAML::Node& key_node, const YAML::Node& value, std::string_view section,
                 const SettingOwner& owner) {
    const std::string& key = key_node.Scalar();
    const std::string path = Join(section, key);
    if (const Setting* setting = FindSetting(section, key)) {
      ReadValue(key_node, value, *setting, owner);
    } else if (const SettingSection* inner = FindSection(path); inner == nullptr) {
      AddFault(LineOf(key_node), UnknownKey(section, key));
    } else if (inner->is_list) {
      ReadTenants(key_node, value);
    } else if (path == "listen.tls") {
      config_.listen.tls.emplace();
      ReadMap(value, inner->path, SettingOwner{.tls = &*config_.listen.tls});
    } else {
      ReadMap(value, inner->path, owner);
    }
  }

  static std::string UnknownKey(std::string_view section, std::string_view key) {
    const std::vector<std::string_view> known = KnownKeys(section);
    std::string what = Concat("unknown key `", Join(section, key.substr(0, 80)), "`");
    // A known name in the wrong place is told apart from a slip of the hand.
    for (const Setting& setting : Settings()) {
      if (setting.key == key) {
        return Concat(what, "; did you mean `", Join(setting.section, key), "`?");
      }
    }
    for (const SettingSection& other : SettingSections()) {
      if (other.path.substr(other.path.rfind('.') + 1) == key) {
        return Concat(what, "; did you mean `", other.path, "`?");
      }
    }
    if (const auto nearest = NearestName(key, known)) {
      return Concat(what, "; did you mean `", *nearest, "`?");
    }
    return Concat(what, "; known here: ", ConcatList(known, ", "));
  }

  void ReadValue(const YAML::Node& key_node, const YAML::Node& value, const Setting& setting,
                 const SettingOwner& owner) {
    const SettingSlot slot = setting.slot(owner);
    if (IsListKind(setting.kind)) {
      ReadList(key_node, value, setting, slot);
    } else if (value.IsScalar() || (value.IsNull() && setting.may_be_empty)) {
      ReadScalar(LineOf(value), value.IsNull() ? "" : value.Scalar(), setting, slot);
    } else {
      AddFault(LineOf(value.IsNull() ? key_node : value),
               Concat("`", Join(setting.section, setting.key), "` ",
                      value.IsNull() ? "has no value; give one or remove the line"
                                     : "must be a single value"));
    }
  }

  void ReadScalar(int line, const std::string& text, const Setting& setting,
                  const SettingSlot& slot) {
    const absl::Status read = ReadSetting(setting, text, slot);
    const std::string path = Join(setting.section, setting.key);
    if (!read.ok()) {
      AddFault(line, Concat("`", path, "`: ", read.message()));
    } else if (!IsTenantSetting(setting) && !IsListKind(setting.kind)) {
      config_.origins[path] = Concat(file_name_, ":", line);
    }
  }

  void ReadList(const YAML::Node& key_node, const YAML::Node& value, const Setting& setting,
                const SettingSlot& slot) {
    const std::string name = Concat("`", Join(setting.section, setting.key), "`");
    if (!value.IsSequence()) {
      AddFault(LineOf(value.IsNull() ? key_node : value), Concat(name, " must be a list"));
      return;
    }
    const auto count = static_cast<int64_t>(value.size());
    if (count < setting.least || count > setting.most) {
      AddFault(LineOf(value), Concat(name, " has ", count, " entries; wanted ", setting.least,
                                     " to ", setting.most));
      return;
    }
    std::set<std::string> seen;
    for (const YAML::Node& entry : value) {
      if (!entry.IsScalar()) {
        AddFault(LineOf(entry), Concat("an entry of ", name, " must be a single value"));
      } else if (!seen.insert(entry.Scalar()).second) {
        AddFault(LineOf(entry), Concat("an entry of ", name, " stands twice"));
      } else {
        ReadScalar(LineOf(entry), entry.Scalar(), setting, slot);
      }
    }
  }

  void ReadTenants(const YAML::Node& key_node, const YAML::Node& list) {
    if (!list.IsSequence()) {
      AddFault(LineOf(list.IsNull() ? key_node : list),
               "`tenants` must be a list; without tenants remove it");
      return;
    }
    if (list.size() > kTenantsMax) {
      AddFault(LineOf(list),
               Concat("`tenants` has ", list.size(), " entries; wanted at most ", kTenantsMax));
      return;
    }
    std::map<std::string, int> line_of_name;
    std::map<std::string, std::string> tenant_of_key;
    for (const YAML::Node& entry : list) {
      TenantConfig tenant;
      ReadMap(entry, "tenants", SettingOwner{.tenant = &tenant});
      if (!tenant.name.empty()) {
        const auto [first, is_new] = line_of_name.emplace(tenant.name, LineOf(entry));
        if (!is_new) {
          AddFault(LineOf(entry), Concat("tenant `", tenant.name, "` stands twice, first in",
                                         " line ", first->second));
        }
      }
      for (const KeyHash& key : tenant.keys) {
        const auto [owner, is_new] = tenant_of_key.emplace(key.sha256_hex, tenant.name);
        if (!is_new && owner->second != tenant.name) {
          AddFault(LineOf(entry), Concat("tenants `", owner->second, "` and `", tenant.name,
                                         "` have a key in common; each needs its own"));
        }
      }
      config_.tenants.push_back(std::move(tenant));
    }
  }

  const std::string& file_name_;
  DaemonConfig config_;
  std::multimap<int, std::string> faults_;  // by line
};

// Looks at a document without keeping anything of it.
class NullEvents final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// Not YAML::LoadAll: on some broken files yaml-cpp 0.7 finds empty documents without end.
bool HasSecondDocument(const std::string& yaml) {
  std::istringstream stream(yaml);
  YAML::Parser parser(stream);
  NullEvents events;
  return parser.HandleNextDocument(events) && parser.HandleNextDocument(events);
}

// yaml-cpp reports by exceptions; they end here.
std::optional<std::string> ReadYaml(std::string_view yaml, ConfigReader& reader) {
  try {
    const std::string text(yaml);
    if (HasSecondDocument(text)) return "holds several YAML documents (`---`); wanted one";
    if (const YAML::Node root = YAML::Load(text); !root.IsNull()) reader.ReadRoot(root);
    return std::nullopt;
  } catch (const YAML::Exception& error) {
    reader.AddFault(error.mark.is_null() ? 0 : error.mark.line + 1,
                    Concat("not YAML: ", error.msg));
    return std::nullopt;
  } catch (const std::exception& error) {
    return Concat("cannot be read: ", error.what());
  }
}

}  // namespace

absl::StatusOr<DaemonConfig> ParseDaemonConfig(std::string_view yaml,
                                               const std::string& file_name) {
  ConfigReader reader(file_name);
  if (yaml.size() > kFileBytesMax) {
    reader.AddFault(0, Concat("has more than ", kFileBytesMax, " bytes; wanted at most that"));
  } else if (yaml.find('\0') != std::string_view::npos) {
    reader.AddFault(0, "holds a zero byte; wanted YAML text");
  } else if (const std::optional<std::string> fault = ReadYaml(yaml, reader)) {
    reader.AddFault(0, *fault);
  }
  return std::move(reader).Finish();
}

absl::StatusOr<DaemonConfig> LoadDaemonConfig(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kFileBytesMax + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof())) {
    return absl::NotFoundError(Concat("the configuration file ", path,
                                      " cannot be read; check the path and its permissions"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return ParseDaemonConfig(text, path);
}

absl::Status OverrideSetting(std::string_view path, std::string_view text, DaemonConfig& config) {
  const size_t dot = path.rfind('.');
  const Setting* setting = dot == std::string_view::npos
                               ? nullptr
                               : FindSetting(path.substr(0, dot), path.substr(dot + 1));
  if (setting == nullptr || IsListKind(setting->kind) || IsTenantSetting(*setting)) {
    return absl::NotFoundError(Concat("`", path, "` is no setting of a single value"));
  }
  SettingOwner owner{.daemon = &config};
  std::optional<TlsConfig> tls = config.listen.tls;
  const bool is_tls = setting->section == "listen.tls";
  if (is_tls) owner.tls = tls ? &*tls : &tls.emplace();
  absl::Status read = ReadSetting(*setting, text, setting->slot(owner));
  if (read.ok() && is_tls) config.listen.tls = std::move(tls);
  return read;
}

absl::Status CheckDaemonConfig(const DaemonConfig& config) {
  std::vector<std::string> faults = FaultsBetweenSettings(config);
  if (config.listen.tls &&
      (config.listen.tls->certificate_path.empty() || config.listen.tls->key_path.empty())) {
    faults.push_back("TLS needs both listen.tls.certificate_path and listen.tls.key_path");
  }
  if (faults.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(ConcatList(faults, "\n"));
}

}  // namespace holdfast
