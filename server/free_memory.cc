#include "server/free_memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "config/base/concat.h"
#include "config/limits.h"

namespace holdfast {
namespace {

constexpr size_t kPseudoFileBytesMax = 1 << 16;

std::string ReadPseudoFile(const std::string& path) {
  std::ifstream file(path);
  std::string text(kPseudoFileBytesMax, '\0');
  if (!file.is_open()) return "";
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

std::optional<int64_t> ReadNumber(const std::string& path) {
  std::istringstream words(ReadPseudoFile(path));
  std::string word;
  int64_t value = 0;
  words >> word;
  if (!absl::SimpleAtoi(word, &value)) return std::nullopt;  // absent, or "max"
  return value;
}

// The number after `name` at the start of a line: "MemAvailable:  123 kB", "inactive_file 123".
std::optional<int64_t> NumberAfter(const std::string& text, std::string_view name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key;
    int64_t value = 0;
    if (words >> key >> value && key == name) return value;
  }
  return std::nullopt;
}

// What one control group leaves; nullopt: it has no limit, or is not there.
std::optional<int64_t> LeftInGroup(const std::string& folder, const char* limit_file,
                                   const char* used_file, std::string_view cache_name) {
  const auto limit = ReadNumber(Concat(folder, "/", limit_file));
  const auto used = ReadNumber(Concat(folder, "/", used_file));
  if (!limit || !used) return std::nullopt;
  const int64_t cache =
      NumberAfter(ReadPseudoFile(Concat(folder, "/memory.stat")), cache_name).value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - cache));
}

// Walks from the process's own group to the top; a limit anywhere on the way binds.
void LimitByGroups(const std::string& mount, std::string path, bool is_v2, int64_t& bytes) {
  while (true) {
    const std::string folder = mount + path;
    const auto left = is_v2 ? LeftInGroup(folder, "memory.max", "memory.current", "inactive_file")
                            : LeftInGroup(folder, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                          "total_inactive_file");
    if (left) bytes = std::min(bytes, *left);
    const size_t slash = path.rfind('/');
    if (path.empty() || slash == std::string::npos) return;
    path.resize(slash);
  }
}

// What KV may take of it: all but a twentieth, which the process's other parts grow into.
int64_t Spendable(int64_t free_bytes) { return free_bytes - free_bytes / 20; }

}  // namespace

absl::StatusOr<int64_t> FreeMemoryBytes(const std::string& root) {
  const std::string meminfo = ReadPseudoFile(root + "/proc/meminfo");
  const auto available_kib = NumberAfter(meminfo, "MemAvailable:");
  if (!available_kib) {
    return absl::UnavailableError(
        "how much memory is free cannot be read from /proc/meminfo; say how much the KV cache may "
        "take with engine.kv_device_bytes or --kv-device-bytes");
  }
  int64_t bytes = *available_kib * 1024;
  std::istringstream lines(ReadPseudoFile(root + "/proc/self/cgroup"));
  const std::string mount = root + "/sys/fs/cgroup";
  for (std::string line; std::getline(lines, line);) {  // "4:memory:/a/b", "0::/a/b"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = Concat(",", line.substr(first + 1, second - first - 1), ",");
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers == ",,") LimitByGroups(mount, path, true, bytes);
    if (controllers.find(",memory,") != std::string::npos) {
      LimitByGroups(mount + "/memory", path, false, bytes);
    }
  }
  return bytes;
}

absl::StatusOr<int64_t> DefaultKvBytes(int64_t free_bytes, const KvDemand& demand) {
  const auto block_bytes = static_cast<int64_t>(demand.block_bytes);
  if (block_bytes <= 0) return 0;
  const int64_t sequence_blocks =
      (int64_t{demand.context_tokens} + kBlockTokens - 1) / kBlockTokens;
  const int64_t sequence_bytes = sequence_blocks * block_bytes;
  if (sequence_bytes > Spendable(free_bytes)) {
    return absl::ResourceExhaustedError(
        Concat("one sequence of ", demand.context_tokens, " tokens needs ", sequence_bytes,
               " bytes of KV cache; of memory ", Spendable(free_bytes),
               " bytes can be had; lower engine.context_tokens to ",
               Spendable(free_bytes) / block_bytes * kBlockTokens,
               " or less, set engine.kv_dtype to i8 where it is not, or give the "
               "process more memory"));
  }
  const int64_t share = free_bytes / 5 * 2 / block_bytes;
  const int64_t blocks =
      std::clamp(share, sequence_blocks, sequence_blocks * std::max(1, demand.running_max));
  return blocks * block_bytes;
}

absl::Status CheckKvFits(int64_t kv_bytes, int64_t free_bytes) {
  if (kv_bytes <= Spendable(free_bytes)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      Concat("engine.kv_device_bytes is ", kv_bytes, "; of memory ", Spendable(free_bytes),
             " bytes can be had; set that or less, or give the process more memory"));
}

}  // namespace holdfast
