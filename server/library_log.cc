#include "server/library_log.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "absl/base/attributes.h"
#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "config/base/check.h"
#include "config/base/concat.h"

namespace holdfast {
namespace {

// The libraries take plain functions, so that what these write to is of the process.
ABSL_CONST_INIT absl::Mutex log_mutex(absl::kConstInit);
ABSL_CONST_INIT Log* current_log ABSL_GUARDED_BY(log_mutex) = nullptr;

struct LibraryLine {
  const char* event;
  LogLevel level;
  const char* file;
  int line;
  std::string_view text;
  bool is_last_word;  // the process is about to abort
};

void Take(const LibraryLine& line) ABSL_LOCKS_EXCLUDED(log_mutex) {
  std::string_view file = line.file == nullptr ? "" : line.file;
  file.remove_prefix(file.rfind('/') + 1);  // npos + 1 is 0
  const std::string at = Concat(file, ":", line.line);
  bool is_taken = false;
  {
    absl::MutexLock lock(&log_mutex);
    if (current_log != nullptr) {
      current_log->Write(line.level, line.event, {{"what", line.text}, {"at", at}});
      is_taken = true;
    }
  }
  if (is_taken && !line.is_last_word) return;
  const std::string plain = Concat("holdfast: ", line.event, ": ", line.text, " (", at, ")\n");
  std::fwrite(plain.data(), 1, plain.size(), stderr);
}

// gRPC filters by its own threshold first, which is errors only.
void TakeGrpcLine(gpr_log_func_args* args) {
  const std::string_view text = args->message == nullptr ? "" : args->message;
  Take({.event = "grpc_library",
        .level = args->severity == GPR_LOG_SEVERITY_ERROR  ? LogLevel::kError
                 : args->severity == GPR_LOG_SEVERITY_INFO ? LogLevel::kInfo
                                                           : LogLevel::kDebug,
        .file = args->file,
        .line = args->line,
        .text = text,
        .is_last_word = text.starts_with("assertion failed")});
}

void TakeProtobufLine(google::protobuf::LogLevel level, const char* file, int line,
                      const std::string& text) {
  Take({.event = "protobuf_library",
        .level = level >= google::protobuf::LOGLEVEL_ERROR     ? LogLevel::kError
                 : level == google::protobuf::LOGLEVEL_WARNING ? LogLevel::kWarn
                                                               : LogLevel::kInfo,
        .file = file,
        .line = line,
        .text = text,
        .is_last_word = level == google::protobuf::LOGLEVEL_FATAL});
}

}  // namespace

LibraryLog::LibraryLog(Log& log) {
  {
    absl::MutexLock lock(&log_mutex);
    CHECK(current_log == nullptr);
    current_log = &log;
  }
  gpr_log_verbosity_init();  // as gRPC does at its first use; before it, nothing is logged
  gpr_set_log_function(TakeGrpcLine);
  google::protobuf::SetLogHandler(TakeProtobufLine);
}

LibraryLog::~LibraryLog() {
  absl::MutexLock lock(&log_mutex);
  current_log = nullptr;
}

}  // namespace holdfast
