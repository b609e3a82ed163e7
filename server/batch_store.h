// Files that tenants upload and the batches made of them, kept in one SQLite file over a restart:
// what a batch is asked for, which of its lines are answered, and what was answered.
//
//   validating --> in_progress --> finalizing --> completed
//       |               |  \-----> cancelling --> cancelled
//       v               v
//     failed         (expired: as completed, with the lines left told as errors)
//
// A line is open until Answer keeps its answer, in one transaction with the batch's counts; so
// whatever becomes of the process, each line has one answer, and only open ones are run again.
// Every call that names a tenant sees that tenant's alone: another's is not found.
//
// Errors: kNotFound, kInvalidArgument (with the parameter), kResourceExhausted (a bound of the
// tenant), and what database.h says.
//
// Thread: one at a time. Bound: BatchBounds.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "server/batch_input.h"
#include "server/database.h"

namespace holdfast {

struct BatchBounds {
  int64_t tenant_bytes_max = int64_t{1} << 30;  // of a tenant's files, those of answers included
  int64_t tenant_files_max = 10'000;
  int64_t tenant_batches_max = 100;                    // that are not at their end
  int64_t tenant_ended_max = 1000;                     // that are; the oldest make room
  int64_t answer_bytes_max = int64_t{512} << 20;       // of one batch; lines beyond it are errors
  absl::Duration kept_for = absl::Hours(24 * 30);      // a batch after its end
  absl::Duration completion_window = absl::Hours(24);  // then a batch expires
};

struct StoredFile {
  std::string id, name, purpose;
  int64_t bytes = 0;
  int64_t created_unix = 0;
  std::optional<int64_t> expires_unix;
};

enum class BatchStatus : uint8_t {
  kValidating,
  kInProgress,
  kFinalizing,
  kCompleted,
  kFailed,
  kExpired,
  kCancelling,
  kCancelled
};
inline constexpr size_t kNumBatchStatuses = 8;
const char* BatchStatusName(BatchStatus status);  // as OpenAI names it
bool IsEnd(BatchStatus status);

struct Batch {
  std::string id, tenant, endpoint, input_file;
  BatchStatus status = BatchStatus::kValidating;
  std::array<std::optional<int64_t>, kNumBatchStatuses> came_unix;  // to that status
  int64_t expires_unix = 0;
  int64_t total = 0, completed = 0, failed = 0;  // lines
  std::optional<std::string> output_file, error_file;
  std::optional<int64_t> output_kept_seconds;
  std::string metadata_json;       // an object; empty: null
  std::vector<BatchFault> faults;  // of its input
};

struct BatchWish {
  std::string endpoint, input_file, metadata_json;
  std::optional<int64_t> output_kept_seconds;
};

// A line that is to be run.
struct OpenLine {
  int64_t line = 0;  // from 1, as in the file
  std::string custom_id;
  std::string body;  // JSON
};

// Newest first, unless told otherwise. `after`: an id of the list before.
struct ListWish {
  std::string after;
  int64_t limit = 20;
  bool oldest_first = false;
};
template <typename T>
struct Listed {
  std::vector<T> entries;
  bool has_more = false;
};

class BatchStore final {
 public:
  static constexpr char kSchema[] = R"sql(
CREATE TABLE files (
  id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL,
  created INTEGER NOT NULL, expires INTEGER, bytes INTEGER NOT NULL, content BLOB NOT NULL);
CREATE INDEX files_of_tenant ON files (tenant, created, id, bytes);
CREATE INDEX files_by_expiry ON files (expires) WHERE expires IS NOT NULL;
CREATE TABLE batches (
  id TEXT PRIMARY KEY, tenant TEXT NOT NULL, endpoint TEXT NOT NULL, input_file TEXT NOT NULL,
  metadata TEXT NOT NULL, status INTEGER NOT NULL, expires INTEGER NOT NULL,
  output_kept INTEGER, answer_bytes INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0, completed INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0, output_file TEXT, error_file TEXT,
  faults TEXT NOT NULL DEFAULT '[]', created INTEGER NOT NULL,
  came_1 INTEGER, came_2 INTEGER, came_3 INTEGER, came_4 INTEGER, came_5 INTEGER, came_6 INTEGER,
  came_7 INTEGER);
CREATE INDEX batches_of_tenant ON batches (tenant, created, id);
CREATE INDEX batches_by_status ON batches (status, created);
CREATE TABLE lines (
  batch TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE, line INTEGER NOT NULL,
  custom_id TEXT NOT NULL, body TEXT NOT NULL, answer TEXT, failed INTEGER,
  PRIMARY KEY (batch, line));
)sql";

  // Both must outlive this; `clock` tells the date.
  BatchStore(Database& database, BatchBounds bounds, const Clock& clock)
      : database_(database), bounds_(bounds), clock_(clock) {}

  // Files.
  absl::StatusOr<StoredFile> AddFile(std::string_view tenant, std::string_view name,
                                     std::string_view purpose, std::string_view content,
                                     std::optional<int64_t> kept_seconds);
  absl::StatusOr<StoredFile> FindFile(std::string_view tenant, std::string_view id);
  absl::StatusOr<std::string> FileContent(std::string_view tenant, std::string_view id);
  absl::Status DeleteFile(std::string_view tenant, std::string_view id);
  // `purpose` empty: all.
  absl::StatusOr<Listed<StoredFile>> ListFiles(std::string_view tenant, std::string_view purpose,
                                               const ListWish& wish);

  // Batches.
  absl::StatusOr<Batch> AddBatch(std::string_view tenant, const BatchWish& wish);
  absl::StatusOr<Batch> FindBatch(std::string_view tenant, std::string_view id);
  absl::StatusOr<Listed<Batch>> ListBatches(std::string_view tenant, const ListWish& wish);
  // kFailedPrecondition: it is at its end.
  absl::StatusOr<Batch> CancelBatch(std::string_view tenant, std::string_view id);

  // What runs them asks these.
  absl::StatusOr<std::vector<Batch>> UnfinishedBatches();  // oldest first
  // Reads the input of one that is validating: then it is in progress, or failed.
  absl::StatusOr<Batch> Validate(const Batch& batch);
  // At most `count`, behind line `after`.
  absl::StatusOr<std::vector<OpenLine>> OpenLines(const std::string& batch, int64_t after,
                                                  int64_t count);
  struct Answer {
    std::string batch;
    int64_t line = 0;
    std::string json;     // the line of the output or error file
    bool failed = false;  // of the error file
  };
  absl::Status KeepAnswers(const std::vector<Answer>& answers);
  // Writes the files of a batch none of whose lines runs any more: what is open is told as an error
  // if it expired, and left out if it was cancelled.
  absl::StatusOr<Batch> Finish(const Batch& batch);
  absl::Status DeleteExpired();

 private:
  int64_t NowUnix() const;
  absl::Status KeepWithin(const std::vector<Answer>& answers);
  absl::StatusOr<Answer> Fitted(const Answer& answer);
  absl::Status MoveTo(const std::string& batch, BatchStatus status);
  absl::Status CheckRoom(std::string_view tenant, int64_t bytes);
  absl::StatusOr<std::optional<std::string>> WriteAnswers(const Batch& batch, bool failed);

  Database& database_;
  const BatchBounds bounds_;
  const Clock& clock_;
};

}  // namespace holdfast
