// Which rows of the usage ledger somebody wants, as text of a query; read by usage_report.h.
#pragma once

#include <string>

namespace holdfast {

struct UsageAsk {
  std::string from,
      to;          // UTC hours or days, as of `holdfast usage`; empty: from the beginning, to now
  std::string by;  // tenant, day or hour; empty: tenant
  std::string tenant;  // empty: all
};

}  // namespace holdfast
