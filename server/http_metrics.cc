#include "server/http_metrics.h"

#include <array>
#include <string>

#include "config/base/check.h"

namespace holdfast {
namespace {
constexpr std::array kCodesOfAll = {200, 400, 401, 405, 408, 0};
constexpr std::array kCodesOfWork = {404, 413, 429, 499, 500, 503, 504};
}  // namespace

HttpMetrics::HttpMetrics(MetricsRegistry& registry)
    : in_flight_(registry.AddGauge("holdfast_http_requests_in_flight",
                                   "HTTP requests read and not yet answered")),
      connections_(registry.AddGauge("holdfast_http_connections", "Open HTTP connections")),
      refused_(registry.AddCounter("holdfast_http_connections_refused_total",
                                   "HTTP connections beyond the bound")) {
  const auto add = [&](const Route* route, int code) {
    requests_.emplace(
        std::pair(route, code),
        registry.AddCounter("holdfast_http_requests_total", "HTTP requests by route and code",
                            {{"route", route == nullptr ? "other" : route->path},
                             {"code", code == 0 ? "other" : std::to_string(code)}}));
  };
  for (const Route& route : Routes()) {
    for (const int code : kCodesOfAll) add(&route, code);
    if (route.endpoint == HttpEndpoint::kReady) add(&route, 503);
    if (route.endpoint == HttpEndpoint::kModel) add(&route, 404);
    if (!route.needs_ready) continue;
    for (const int code : kCodesOfWork) add(&route, code);
  }
  for (const int code : kCodesOfAll) add(nullptr, code);
  add(nullptr, 404);
}

void HttpMetrics::CountRequest(const Route* route, int code) {
  auto found = requests_.find({route, code});
  if (found == requests_.end()) found = requests_.find({route, 0});
  CHECK(found != requests_.end());
  found->second.Add();
}

}  // namespace holdfast
