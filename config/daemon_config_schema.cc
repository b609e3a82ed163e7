#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "config/base/concat.h"
#include "config/daemon_config.h"
#include "config/daemon_config_table.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kNamePattern[] = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
constexpr char kEndpointPattern[] = "^(localhost|[0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$";
constexpr char kServerPattern[] =
    "^(unix:.+|((redis|valkey)://)?([^\\]\\[:/@ ]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5})?$";
constexpr char kBytesPattern[] = "^([0-9]+ ?B?|[0-9]+(\\.[0-9]+)? ?[KMGT]i?B)$";
constexpr char kAmountPattern[] = "^([0-9]+ ?B?|[0-9]+(\\.[0-9]+)?(%| ?[KMGT]i?B))$";
constexpr char kDurationPattern[] = "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$|^0$";

Json TypeOf(const Setting& setting) {
  switch (setting.kind) {
    case SettingKind::kText:
      if (setting.may_be_empty) return {{"type", {"string", "null"}}};
      return {{"type", "string"}, {"minLength", 1}};
    case SettingKind::kName:
      return {{"type", "string"}, {"pattern", kNamePattern}};
    case SettingKind::kEndpoint:
      if (setting.may_be_empty) {
        return {{"type", {"string", "null"}}, {"pattern", Concat("^$|", kEndpointPattern)}};
      }
      return {{"type", "string"}, {"pattern", kEndpointPattern}};
    case SettingKind::kServer:
      return {{"type", {"string", "null"}}, {"pattern", kServerPattern}};
    case SettingKind::kBool:
      return {{"type", "boolean"}};
    case SettingKind::kInteger:
      return {{"type", "integer"}, {"minimum", setting.least}, {"maximum", setting.most}};
    case SettingKind::kNumber:
      return {{"type", "number"},
              {setting.above_least ? "exclusiveMinimum" : "minimum", setting.least},
              {"maximum", setting.most}};
    case SettingKind::kBytes:
      return {{"type", {"integer", "string"}},
              {"minimum", setting.least},
              {"maximum", setting.most},
              {"pattern", kBytesPattern}};
    case SettingKind::kAmount:
      return {{"type", {"string", "integer"}}, {"minimum", 0}, {"pattern", kAmountPattern}};
    case SettingKind::kDuration:
      return {{"type", {"string", "integer"}}, {"maximum", 0}, {"pattern", kDurationPattern}};
    case SettingKind::kChoice:
      return {{"enum", setting.choices}};
    case SettingKind::kTexts:
      return {{"type", "array"},
              {"items", {{"type", "string"}, {"minLength", 1}}},
              {"maxItems", setting.most},
              {"uniqueItems", true}};
    case SettingKind::kKeyHashes:
      return {{"type", "array"},
              {"items", {{"type", "string"}, {"pattern", "^sha256:[0-9A-Fa-f]{64}$"}}},
              {"minItems", setting.least},
              {"maxItems", setting.most},
              {"uniqueItems", true}};
  }
  return Json::object();
}

// The default as a user would write it; null: there is none, or it depends.
Json DefaultOf(const SettingSlot& slot) {
  if (const auto* text = std::get_if<std::string*>(&slot)) {
    return (*text)->empty() ? Json() : Json(**text);
  }
  if (const auto* flag = std::get_if<bool*>(&slot)) return **flag;
  if (const auto* number = std::get_if<int32_t*>(&slot)) return **number;
  if (const auto* number = std::get_if<int64_t*>(&slot)) return **number;
  if (const auto* number = std::get_if<double*>(&slot)) return **number;
  if (const auto* time = std::get_if<absl::Duration*>(&slot)) {
    return absl::FormatDuration(**time);
  }
  return {};
}

Json SchemaOf(std::string_view section, const SettingOwner& owner) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const Setting& setting : Settings()) {
    if (setting.section != section) continue;
    Json property = TypeOf(setting);
    property["description"] = setting.about;
    if (Json value = DefaultOf(setting.slot(owner)); !value.is_null()) {
      property["default"] = std::move(value);
    }
    properties[std::string(setting.key)] = std::move(property);
    if (setting.required) required.push_back(setting.key);
  }
  Json schema = {{"type", "object"}, {"additionalProperties", false}};
  if (!required.empty()) schema["required"] = std::move(required);
  schema["properties"] = std::move(properties);
  return schema;
}

}  // namespace

std::string DaemonConfigSchema() {
  DaemonConfig daemon;
  TlsConfig tls;
  TenantConfig tenant;
  const SettingOwner owner{.daemon = &daemon, .tls = &tls, .tenant = &tenant};
  Json root = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
               {"title", "Configuration of the holdfast daemon"},
               {"type", {"object", "null"}},
               {"additionalProperties", false},
               {"properties", Json::object()}};
  // Sections stand in the table before the ones within them.
  for (const SettingSection& section : SettingSections()) {
    Json schema = SchemaOf(section.path, owner);
    if (section.is_list) {
      schema = {{"type", "array"}, {"maxItems", kTenantsMax}, {"items", std::move(schema)}};
    } else if (!schema.contains("required")) {
      schema["type"] = {"object", "null"};  // a heading with nothing under it
    }
    schema["description"] = section.about;
    Json* parent = &root;
    std::string_view rest = section.path;
    for (size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
      parent = &(*parent)["properties"][std::string(rest.substr(0, dot))];
      if (parent->contains("items")) parent = &(*parent)["items"];
      rest.remove_prefix(dot + 1);
    }
    (*parent)["properties"][std::string(rest)] = std::move(schema);
  }
  return root.dump(2) + "\n";
}

}  // namespace holdfast
