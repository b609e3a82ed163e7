// What the daemon says about itself on standard error: one event a line, key=value for people or a
// JSON object for machines. Never a prompt, a completion or a key.
//
//   2026-11-21T09:30:00.125Z info ready http=127.0.0.1:8080 model="a name with spaces"
//   {"time":"2026-11-21T09:30:00.125Z","level":"info","event":"ready","http":"127.0.0.1:8080"}
//
// Write never blocks: lines go through a bounded queue to one thread, and when standard error does
// not take them the oldest are lost. One event may fill kLogLinesMax lines in kLogWindow; what is
// more is counted, and the event's next line says `suppressed=N`.
//
// Thread: any.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/base/concat.h"

namespace holdfast {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError };
enum class LogFormat : uint8_t { kText, kJson };

// Of a setting's word: "debug", "info", "warn", "error".
LogLevel LogLevelOf(std::string_view name);

inline constexpr int kLogLinesMax = 20;
inline constexpr absl::Duration kLogWindow = absl::Seconds(1);

// One key=value. Numbers stay numbers in JSON; durations are seconds.
class LogField final {
 public:
  LogField(std::string_view key, std::string_view value) : key_(key), value_(value) {}
  LogField(std::string_view key, const char* value) : key_(key), value_(value) {}
  LogField(std::string_view key, const std::string& value) : key_(key), value_(value) {}
  template <typename T>
  requires std::integral<T> || std::floating_point<T> LogField(std::string_view key, T value)
      : key_(key), value_(Concat(value)), is_number_(true) {}
  LogField(std::string_view key, absl::Duration value)
      : LogField(key, absl::ToDoubleSeconds(value)) {}

  std::string_view key() const { return key_; }
  const std::string& value() const { return value_; }
  bool is_number() const { return is_number_; }

 private:
  std::string_view key_;  // a literal
  std::string value_;
  bool is_number_ = false;
};

// The line of an event, without its end. Whatever bytes the values hold, it is one line, and in
// JSON one valid object in valid UTF-8.
std::string FormatLogLine(LogFormat format, absl::Time time, LogLevel level, std::string_view event,
                          std::initializer_list<LogField> fields, int64_t suppressed);

class Log final {
 public:
  struct Options {
    LogLevel level = LogLevel::kInfo;
    LogFormat format = LogFormat::kText;
    std::ostream* out = nullptr;   // null: standard error. Must outlive the log.
    int lines_max = kLogLinesMax;  // of one event in kLogWindow; the rest is counted
  };
  Log(const Options& options, const Clock& clock);
  ~Log();  // after writing out what waits
  Log(const Log&) = delete;

  void SetLevel(LogLevel level);  // of the lines from now on

  // `event`: a literal, a few words joined by underscores.
  void Debug(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kDebug, event, fields);
  }
  void Info(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kInfo, event, fields);
  }
  void Warn(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kWarn, event, fields);
  }
  void Error(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kError, event, fields);
  }
  void Write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast
