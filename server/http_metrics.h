// What the HTTP front counts. All series are made at start from the table of routes and a fixed
// list of codes, so that no request can make new ones:
//   holdfast_http_requests_total{route,code}   answered requests; code 499: the client left first
//   holdfast_http_requests_in_flight           header read, answer not yet through
//   holdfast_http_connections                  open now
//   holdfast_http_connections_refused_total    beyond connections_max
//
// Thread: any.
#pragma once

#include <map>
#include <utility>

#include "config/base/metrics.h"
#include "server/http_router.h"

namespace holdfast {

class HttpMetrics final {
 public:
  explicit HttpMetrics(MetricsRegistry& registry);

  void CountRequest(const Route* route, int code);  // nullptr: an unknown path
  void AddInFlight(int change) { in_flight_.Add(change); }
  void AddConnections(int change) { connections_.Add(change); }
  void CountRefusedConnection() { refused_.Add(); }

 private:
  std::map<std::pair<const Route*, int>, Counter> requests_;  // code 0: any other
  Gauge in_flight_, connections_;
  Counter refused_;
};

}  // namespace holdfast
