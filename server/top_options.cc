#include "server/top_options.h"

#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>
#include <fstream>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/endpoint.h"
#include "server/loopback_host.h"
#include "server/workload_arguments.h"

namespace holdfast {
namespace {

constexpr absl::Duration kIntervalMin = absl::Milliseconds(100), kIntervalMax = absl::Hours(1);
constexpr size_t kAnswerBytesMax = 64 << 20;  // of /metrics and the queue, with many tenants

std::string HostAndPort(const HttpQuestion& daemon) {
  const bool is_v6 = daemon.host.find(':') != std::string::npos;
  return Concat(is_v6 ? "[" : "", daemon.host, is_v6 ? "]:" : ":", daemon.port);
}

absl::StatusOr<HttpQuestion> DaemonAt(const std::string& url) {
  const auto wanted = [&url] {
    return absl::InvalidArgumentError(
        Concat("--url: wanted http://HOST:PORT or https://HOST:PORT, found `", url, "`"));
  };
  const auto parsed = boost::urls::parse_uri(url);
  if (!parsed) return wanted();
  HttpQuestion daemon{.host = parsed->host_address()};
  const bool is_tls = parsed->scheme_id() == boost::urls::scheme::https;
  if (!is_tls && parsed->scheme_id() != boost::urls::scheme::http) return wanted();
  const bool has_more = parsed->has_userinfo() || parsed->has_query() || parsed->has_fragment() ||
                        (!parsed->encoded_path().empty() && parsed->encoded_path() != "/");
  if (daemon.host.empty() || has_more) return wanted();
  uint32_t port = is_tls ? 443 : 80;
  if (const std::string text = parsed->port(); !text.empty()) {
    if (!absl::SimpleAtoi(text, &port) || port < 1 || port > UINT16_MAX) return wanted();
  }
  daemon.port = static_cast<uint16_t>(port);
  if (is_tls) daemon.tls = HttpQuestion::Tls::kChecked;
  return daemon;
}

// As `holdfast health` finds it: 0.0.0.0 and :: by loopback, its certificate unchecked.
absl::StatusOr<HttpQuestion> DaemonOf(const DaemonConfig& config) {
  const bool has_admin = !config.admin.keys.empty();
  ASSIGN_OR_RETURN(const Endpoint endpoint,
                   ParseEndpoint(has_admin ? config.admin.http : config.listen.http));
  if (endpoint.port == 0) {
    return absl::InvalidArgumentError(
        Concat("`", has_admin ? "admin.http" : "listen.http",
               "` has port 0, by which a daemon is not found; name it: --url http://HOST:PORT"));
  }
  HttpQuestion daemon{.host = endpoint.host, .port = endpoint.port};
  if (daemon.host == "0.0.0.0") daemon.host = "127.0.0.1";
  if (daemon.host == "::") daemon.host = "::1";
  if (config.listen.tls) daemon.tls = HttpQuestion::Tls::kUnchecked;
  return daemon;
}

absl::StatusOr<std::string> ReadKey(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) {
    return absl::NotFoundError(Concat("--key-file: ", path, ": wanted a key, found none to read"));
  }
  absl::StripAsciiWhitespace(&line);
  for (const char letter : line) {
    if (absl::ascii_isgraph(static_cast<unsigned char>(letter))) continue;
    line.clear();
  }
  if (!line.empty()) return line;
  return absl::InvalidArgumentError(
      Concat("--key-file: ", path, ": its first line is no key; wanted what keys new printed"));
}

}  // namespace

absl::StatusOr<TopOptions> TopOptionsOf(const CommandLine& line, const DaemonConfig& config) {
  VerbArguments arguments(line);
  TopOptions options;
  options.interval = arguments.Time("--interval").value_or(options.interval);
  RETURN_IF_ERROR(arguments.status());
  if (options.interval < kIntervalMin || options.interval > kIntervalMax) {
    return absl::InvalidArgumentError(Concat("--interval: wanted a time from 100ms to 1h, found `",
                                             arguments.Text("--interval"), "`"));
  }
  if (arguments.Find("--once") != nullptr) options.frames = TopOptions::Frames::kOnce;
  const std::string url = arguments.Text("--url");
  ASSIGN_OR_RETURN(options.daemon, url.empty() ? DaemonOf(config) : DaemonAt(url));
  options.daemon.tls_ca = arguments.Text("--tls-ca");
  if (!options.daemon.tls_ca.empty() && options.daemon.tls != HttpQuestion::Tls::kChecked) {
    return absl::InvalidArgumentError("--tls-ca: it is for --url https://HOST:PORT");
  }
  options.daemon.answer_bytes_max = kAnswerBytesMax;
  const bool is_tls = options.daemon.tls != HttpQuestion::Tls::kNone;
  options.url = Concat(is_tls ? "https://" : "http://", HostAndPort(options.daemon));
  if (const std::string path = arguments.Text("--key-file"); !path.empty()) {
    if (options.daemon.tls != HttpQuestion::Tls::kChecked &&
        !IsLoopbackHost(HostAndPort(options.daemon))) {
      return absl::InvalidArgumentError(Concat(
          "--key-file: the key would go to ", options.url, ", whoever that is",
          is_tls ? "; have its certificate checked by --url https://HOST:PORT"
                 : ", for all to read on the way; ask by https://, or through an SSH tunnel"));
    }
    ASSIGN_OR_RETURN(const std::string key, ReadKey(path));
    options.daemon.headers.emplace_back("Authorization", Concat("Bearer ", key));
    options.has_key = true;
  }
  return options;
}

}  // namespace holdfast
