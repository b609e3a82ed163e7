// Every key of the configuration file as one table. It drives the parser, the JSON Schema and the
// command line's overrides, so that none of them can know a key that the others do not.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "config/daemon_config.h"
#include "config/tenant_config.h"

namespace holdfast {

enum class SettingKind : uint8_t {
  kText,      // any text without control characters
  kName,      // a tenant's or group's name: letters, digits, ".", "_", "-"; 64 at most
  kEndpoint,  // ADDR:PORT
  kServer,    // host:port or unix:PATH
  kBool,
  kInteger,
  kNumber,    // not only whole ones
  kBytes,     // 4GiB, 512MiB, 2000000000
  kDuration,  // 500ms, 30s, 10m
  kAmount,    // 25%, or bytes
  kChoice,
  kTexts,      // list of texts, without duplicates
  kKeyHashes,  // list of sha256:<64 hex digits>
};

// Where a setting's value lies.
using SettingSlot =
    std::variant<std::string*, std::optional<std::string>*, bool*, int32_t*, int64_t*, double*,
                 std::optional<int32_t>*, std::optional<int64_t>*, absl::Duration*,
                 std::optional<TierAmount>*, std::vector<std::string>*, std::vector<KeyHash>*>;

// What a slot is looked up in; only the one that the section needs is set.
struct SettingOwner {
  DaemonConfig* daemon = nullptr;
  TlsConfig* tls = nullptr;
  TenantConfig* tenant = nullptr;
};

struct Setting {
  std::string_view section;  // "listen", "listen.tls", "tenants", "tenants.kv.device"
  std::string_view key;
  SettingKind kind = SettingKind::kText;
  SettingSlot (*slot)(const SettingOwner&) = nullptr;
  std::string_view about;  // one line for people, in the schema
  int64_t least = 0;       // numbers, bytes; milliseconds of durations; entries of lists
  int64_t most = 0;
  std::vector<std::string_view> choices = {};
  bool above_least = false;   // `least` itself is out of range
  bool required = false;      // within its section, once that is there
  bool may_be_empty = false;  // the empty text means none
  bool reloads = false;       // a running daemon takes a new value (config_changes.h)
};

struct SettingSection {
  std::string_view path;
  std::string_view about;
  bool is_list = false;
};

std::span<const SettingSection> SettingSections();
std::span<const Setting> Settings();
inline bool IsTenantSetting(const Setting& setting) {
  return setting.section.starts_with("tenants");
}

}  // namespace holdfast
