#include "server/start_check.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "config/base/concat.h"
#include "config/endpoint.h"

namespace holdfast {
namespace {

class Faults final {
 public:
  explicit Faults(const DaemonConfig& config) : config_(config) {}

  // "FILE:3: `listen.http` is 0.0.0.0:80, which ..."
  void Add(const char* setting, std::string_view value, std::string_view what) {
    const auto origin = config_.origins.find(setting);
    lines_.push_back(Concat(origin == config_.origins.end() ? "" : Concat(origin->second, ": "),
                            "`", setting, "` is ", value, what));
  }

  absl::Status Finish() const {
    if (lines_.empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(ConcatList(lines_, "\n"));
  }

 private:
  const DaemonConfig& config_;
  std::vector<std::string> lines_;
};

void CheckReach(const DaemonConfig& config, const char* setting, const std::string& address,
                Faults& faults) {
  if (!config.tenants.empty() || config.listen.allow_anonymous || address.empty()) return;
  const auto endpoint = ParseEndpoint(address);
  if (!endpoint.ok() || endpoint->is_loopback) return;  // the former was refused as it was read
  faults.Add(setting, address,
             ", which others can reach, and no tenant has keys; add tenants with keys (holdfast "
             "keys new), listen on loopback only, or set listen.allow_anonymous");
}

void CheckPem(const char* setting, const std::string& path, Faults& faults) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    faults.Add(setting, path, ", where there is no file; give a PEM file");
  } else if (std::filesystem::is_directory(path, error)) {
    faults.Add(setting, path, ", a folder; give a PEM file");
  } else if (std::ifstream file(path, std::ios::binary); !file.is_open()) {
    faults.Add(setting, path, ", which cannot be read; check its permissions");
  } else if (file.peek() == std::ifstream::traits_type::eof()) {
    faults.Add(setting, path, ", which is empty; give a PEM file");
  }
}

void CheckPassword(const std::string& path, Faults& faults) {
  if (path.empty()) return;
  std::string password;
  if (std::ifstream file(path); !file.is_open()) {
    faults.Add("kv.remote.password_path", path, ", which cannot be read; check it is there");
  } else if (!std::getline(file, password) || password.empty()) {
    faults.Add("kv.remote.password_path", path, ", whose first line is empty; write the password");
  }
}

void CheckModel(const std::string& path, Faults& faults) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    faults.Add("model.path", path,
               ", where there is no model; run ./dev setup, which fetches the default one, or name "
               "one with --model or model.path");
  } else if (access(path.c_str(), R_OK) != 0) {
    faults.Add("model.path", path, ", which cannot be read; check its permissions");
  }
}

}  // namespace

absl::Status CheckStart(const DaemonConfig& config) {
  Faults faults(config);
  CheckReach(config, "listen.http", config.listen.http, faults);
  CheckReach(config, "listen.grpc", config.listen.grpc, faults);
  if (config.listen.tls) {
    CheckPem("listen.tls.certificate_path", config.listen.tls->certificate_path, faults);
    CheckPem("listen.tls.key_path", config.listen.tls->key_path, faults);
  }
  CheckPassword(config.kv.remote.password_path, faults);
  CheckModel(config.model.path, faults);
  return faults.Finish();
}

}  // namespace holdfast
