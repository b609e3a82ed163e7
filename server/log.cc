#include "server/log.h"

#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/base/concat.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

constexpr size_t kQueueLines = 8192;
constexpr size_t kValueBytesMax = 1024;
constexpr size_t kEventsMax = 256;  // distinct events whose lines are counted

std::string_view NameOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

bool IsPlain(std::string_view value) {
  if (value.empty()) return false;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (!absl::ascii_isgraph(byte) || c == '"' || c == '=' || c == '\\') return false;
  }
  return true;
}

// As a JSON string: quotes, controls and broken UTF-8 cannot end the line or forge another.
std::string Quoted(std::string_view value) {
  const std::string_view kept = value.substr(0, kValueBytesMax);
  return nlohmann::json(std::string(kept))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string ValueText(const LogField& field, LogFormat format) {
  const bool as_it_is = format == LogFormat::kText
                            ? IsPlain(field.value()) && field.value().size() <= kValueBytesMax
                            : field.is_number() && nlohmann::json::accept(field.value());
  return as_it_is ? field.value() : Quoted(field.value());
}

}  // namespace

LogLevel LogLevelOf(std::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warn") return LogLevel::kWarn;
  if (name == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

std::string FormatLogLine(LogFormat format, absl::Time time, LogLevel level, std::string_view event,
                          std::initializer_list<LogField> fields, int64_t suppressed) {
  const bool is_text = format == LogFormat::kText;
  std::string line = is_text ? Concat(TimeText(time), " ", NameOf(level), " ", event)
                             : Concat("{\"time\":\"", TimeText(time), "\",\"level\":\"",
                                      NameOf(level), "\",\"event\":", Quoted(event));
  const auto append = [&](const LogField& field) {
    line += is_text ? Concat(" ", field.key(), "=", ValueText(field, format))
                    : Concat(",", Quoted(field.key()), ":", ValueText(field, format));
  };
  for (const LogField& field : fields) append(field);
  if (suppressed > 0) append(LogField("suppressed", suppressed));
  if (!is_text) line += "}";
  return line;
}

struct Log::Impl {
  struct Window {
    absl::Time began;
    int lines = 0;
    int64_t suppressed = 0;
  };

  Impl(const Options& options, const Clock& clock)
      : level(options.level), format(options.format), lines_max(options.lines_max), clock(clock) {
    spdlog::sink_ptr sink;
    if (options.out != nullptr) {
      sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(*options.out);
    } else {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    }
    sink->set_pattern("%v");  // lines come ready made: the pattern would not escape
    logger = std::make_shared<spdlog::async_logger>("holdfast", std::move(sink), threads,
                                                    spdlog::async_overflow_policy::overrun_oldest);
    logger->set_level(spdlog::level::trace);
    logger->flush_on(spdlog::level::trace);
  }

  // The number of this event's lines that were swallowed before this one; nullopt: this one is too.
  std::optional<int64_t> Allow(std::string_view event, absl::Time now) ABSL_LOCKS_EXCLUDED(mutex) {
    absl::MutexLock lock(&mutex);
    auto found = windows.find(std::string(event));
    if (found == windows.end()) {
      if (windows.size() >= kEventsMax) return std::nullopt;
      found = windows.emplace(std::string(event), Window{.began = now}).first;
    }
    Window& window = found->second;
    if (now - window.began >= kLogWindow || now < window.began) {
      window.began = now;
      window.lines = 0;
    }
    if (window.lines >= lines_max) {
      ++window.suppressed;
      return std::nullopt;
    }
    ++window.lines;
    return std::exchange(window.suppressed, 0);
  }

  std::atomic<LogLevel> level;
  const LogFormat format;
  const int lines_max;
  const Clock& clock;
  absl::Mutex mutex;
  absl::flat_hash_map<std::string, Window> windows ABSL_GUARDED_BY(mutex);
  // shared_ptr: spdlog's way; the logger keeps only a weak reference to the pool.
  std::shared_ptr<spdlog::details::thread_pool> threads =
      std::make_shared<spdlog::details::thread_pool>(kQueueLines, 1);
  std::shared_ptr<spdlog::async_logger> logger;
};

Log::Log(const Options& options, const Clock& clock)
    : impl_(std::make_unique<Impl>(options, clock)) {}
Log::~Log() = default;

void Log::SetLevel(LogLevel level) { impl_->level = level; }

void Log::Write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  if (level < impl_->level) return;
  const absl::Time now = impl_->clock.Now();
  const std::optional<int64_t> suppressed = impl_->Allow(event, now);
  if (!suppressed) return;
  impl_->logger->log(
      spdlog::level::info,
      spdlog::string_view_t(FormatLogLine(impl_->format, now, level, event, fields, *suppressed)));
}

}  // namespace holdfast
