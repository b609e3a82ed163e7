#include "config/tenant_config.h"

#include <utility>

namespace holdfast {

std::vector<TenantConfig> TenantsOrDefault(std::vector<TenantConfig> tenants) {
  if (tenants.empty()) tenants.push_back({.name = "default"});
  return tenants;
}

std::vector<std::string> NamesOf(const std::vector<TenantConfig>& tenants) {
  std::vector<std::string> names;
  for (const TenantConfig& tenant : TenantsOrDefault(tenants)) names.push_back(tenant.name);
  return names;
}

}  // namespace holdfast
