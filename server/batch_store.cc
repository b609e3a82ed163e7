#include "server/batch_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/cord.h"
#include "config/base/check.h"
#include "config/base/clock.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/generation.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/state_id.h"

namespace holdfast {
namespace {

constexpr char kFileColumns[] = "id, name, purpose, bytes, created, expires";
constexpr char kBatchColumns[] =
    "id, tenant, endpoint, input_file, metadata, status, expires, output_kept, total, completed, "
    "failed, output_file, error_file, faults, created, came_1, came_2, came_3, came_4, came_5, "
    "came_6, came_7";
constexpr int kFirstCame = 14;  // column of the time when a batch came to status 0

std::optional<std::string> MaybeText(const Rows& rows, int column) {
  const std::string_view text = rows.Text(column);
  if (text.empty()) return std::nullopt;
  return std::string(text);
}

StoredFile FileOf(const Rows& rows) {
  return {.id = std::string(rows.Text(0)),
          .name = std::string(rows.Text(1)),
          .purpose = std::string(rows.Text(2)),
          .bytes = rows.Integer(3),
          .created_unix = rows.Integer(4),
          .expires_unix = rows.MaybeInteger(5)};
}

std::string FaultsJson(const std::vector<BatchFault>& faults) {
  Json list = Json::array();
  for (const BatchFault& fault : faults) {
    list.push_back({{"code", fault.code},
                    {"message", fault.message},
                    {"param", fault.param},
                    {"line", fault.line}});
  }
  return DumpJson(list);
}

std::vector<BatchFault> FaultsOf(std::string_view json) {
  std::vector<BatchFault> faults;
  const absl::StatusOr<Json> list = ParseOwnJson(AbslView(json));
  if (!list.ok()) return faults;
  for (const Json& one : *list) {
    if (!one.is_object()) continue;
    faults.push_back({.code = one.value("code", ""),
                      .message = one.value("message", ""),
                      .param = one.value("param", ""),
                      .line = one.value("line", int64_t{0})});
  }
  return faults;
}

Batch BatchOf(const Rows& rows) {
  Batch batch{.id = std::string(rows.Text(0)),
              .tenant = std::string(rows.Text(1)),
              .endpoint = std::string(rows.Text(2)),
              .input_file = std::string(rows.Text(3)),
              .status = static_cast<BatchStatus>(rows.Integer(5)),
              .expires_unix = rows.Integer(6),
              .total = rows.Integer(8),
              .completed = rows.Integer(9),
              .failed = rows.Integer(10),
              .output_file = MaybeText(rows, 11),
              .error_file = MaybeText(rows, 12),
              .output_kept_seconds = rows.MaybeInteger(7),
              .metadata_json = std::string(rows.Text(4)),
              .faults = FaultsOf(rows.Text(13))};
  for (size_t i = 0; i < kNumBatchStatuses; ++i) {
    batch.came_unix[i] = rows.MaybeInteger(kFirstCame + static_cast<int>(i));
  }
  return batch;
}

absl::Status NoSuch(std::string_view what, std::string_view param, std::string_view id) {
  absl::Status status = absl::NotFoundError(Concat("you have no ", what, " `", id.substr(0, 128),
                                                   "`; it may have been deleted or have expired"));
  status.SetPayload(kErrorParamUrl, absl::Cord(AbslView(param)));
  return status;
}

// The end of a query for a page of `wish`, whose last two values are the count and, where
// `wish.after` is set, that id before it.
std::string PageOf(std::string_view table, const ListWish& wish) {
  const std::string_view order = wish.oldest_first ? "ASC" : "DESC";
  const std::string_view beyond = wish.oldest_first ? ">" : "<";
  // A row value cannot be compared with nothing: without `after` all are wanted.
  return Concat(" AND (? = '' OR (created, id) ", beyond, " (SELECT created, id FROM ", table,
                " AS other WHERE id = ? AND other.tenant = ", table, ".tenant)) ORDER BY created ",
                order, ", id ", order, " LIMIT ?");
}

template <typename T, typename Read>
absl::StatusOr<Listed<T>> PageFrom(Rows rows, int64_t limit, const Read& read) {
  Listed<T> listed;
  while (rows.Next()) {
    if (static_cast<int64_t>(listed.entries.size()) == limit) {
      listed.has_more = true;
      break;
    }
    listed.entries.push_back(read(rows));
  }
  RETURN_IF_ERROR(rows.status());
  return listed;
}

std::string ErrorLine(std::string_view custom_id, std::string_view code, std::string_view message) {
  Json json = Json::object();
  json["id"] = MakeStateId("batch_req_");
  json["custom_id"] = std::string(custom_id);
  json["response"] = nullptr;
  json["error"] = {{"code", std::string(code)}, {"message", std::string(message)}};
  return DumpJson(json);
}

constexpr int64_t kSmallAnswer = 4096;  // bytes: an error line, which is always kept

}  // namespace

const char* BatchStatusName(BatchStatus status) {
  static constexpr const char* kNames[kNumBatchStatuses] = {
      "validating", "in_progress", "finalizing", "completed",
      "failed",     "expired",     "cancelling", "cancelled"};
  return kNames[static_cast<size_t>(status)];
}

bool IsEnd(BatchStatus status) {
  return status == BatchStatus::kCompleted || status == BatchStatus::kFailed ||
         status == BatchStatus::kExpired || status == BatchStatus::kCancelled;
}

int64_t BatchStore::NowUnix() const { return absl::ToUnixSeconds(clock_.Now()); }

// ---- Files -------------------------------------------------------------------------------------

absl::Status BatchStore::CheckRoom(std::string_view tenant, int64_t bytes) {
  ASSIGN_OR_RETURN(Rows rows,
                   database_.Query("SELECT count(*), coalesce(sum(bytes), 0) FROM files WHERE "
                                   "tenant = ?",
                                   tenant));
  const bool any = rows.Next();
  RETURN_IF_ERROR(rows.status());
  const int64_t files = any ? rows.Integer(0) : 0, held = any ? rows.Integer(1) : 0;
  if (files >= bounds_.tenant_files_max) {
    return absl::ResourceExhaustedError(Concat("you have ", files,
                                               " files, which is the most that ",
                                               "this server keeps for you; delete some"));
  }
  if (held + bytes > bounds_.tenant_bytes_max) {
    return absl::ResourceExhaustedError(Concat("your files have ", held, " bytes and this one has ",
                                               bytes, ", of ", bounds_.tenant_bytes_max,
                                               " that this server keeps for you; delete some"));
  }
  return absl::OkStatus();
}

absl::StatusOr<StoredFile> BatchStore::AddFile(std::string_view tenant, std::string_view name,
                                               std::string_view purpose, std::string_view content,
                                               std::optional<int64_t> kept_seconds) {
  RETURN_IF_ERROR(CheckRoom(tenant, static_cast<int64_t>(content.size())));
  StoredFile file{.id = MakeStateId("file-"),
                  .name = std::string(name),
                  .purpose = std::string(purpose),
                  .bytes = static_cast<int64_t>(content.size()),
                  .created_unix = NowUnix()};
  if (kept_seconds.has_value()) file.expires_unix = file.created_unix + *kept_seconds;
  RETURN_IF_ERROR(database_.Run(
      "INSERT INTO files (id, tenant, name, purpose, created, expires, bytes, content) VALUES "
      "(?, ?, ?, ?, ?, ?, ?, ?)",
      file.id, tenant, name, purpose, file.created_unix, file.expires_unix, file.bytes, content));
  return file;
}

absl::StatusOr<StoredFile> BatchStore::FindFile(std::string_view tenant, std::string_view id) {
  ASSIGN_OR_RETURN(Rows rows,
                   database_.Query(Concat("SELECT ", kFileColumns,
                                          " FROM files WHERE id = ? AND tenant = ? AND (expires "
                                          "IS NULL OR expires > ?)"),
                                   id, tenant, NowUnix()));
  if (rows.Next()) return FileOf(rows);
  RETURN_IF_ERROR(rows.status());
  return NoSuch("file", "file_id", id);
}

absl::StatusOr<std::string> BatchStore::FileContent(std::string_view tenant, std::string_view id) {
  ASSIGN_OR_RETURN(Rows rows,
                   database_.Query("SELECT content FROM files WHERE id = ? AND tenant = ? AND "
                                   "(expires IS NULL OR expires > ?)",
                                   id, tenant, NowUnix()));
  if (rows.Next()) return std::string(rows.Text(0));
  RETURN_IF_ERROR(rows.status());
  return NoSuch("file", "file_id", id);
}

absl::Status BatchStore::DeleteFile(std::string_view tenant, std::string_view id) {
  RETURN_IF_ERROR(database_.Run("DELETE FROM files WHERE id = ? AND tenant = ?", id, tenant));
  return database_.rows_changed() > 0 ? absl::OkStatus() : NoSuch("file", "file_id", id);
}

absl::StatusOr<Listed<StoredFile>> BatchStore::ListFiles(std::string_view tenant,
                                                         std::string_view purpose,
                                                         const ListWish& wish) {
  ASSIGN_OR_RETURN(
      Rows rows,
      database_.Query(Concat("SELECT ", kFileColumns,
                             " FROM files WHERE tenant = ? AND (? = '' OR purpose = ?) AND "
                             "(expires IS NULL OR expires > ?)",
                             PageOf("files", wish)),
                      tenant, purpose, purpose, NowUnix(), wish.after, wish.after, wish.limit + 1));
  return PageFrom<StoredFile>(std::move(rows), wish.limit, FileOf);
}

// ---- Batches -----------------------------------------------------------------------------------

absl::StatusOr<Batch> BatchStore::AddBatch(std::string_view tenant, const BatchWish& wish) {
  const absl::StatusOr<StoredFile> input = FindFile(tenant, wish.input_file);
  if (!input.ok()) {
    absl::Status status = input.status();
    if (absl::IsNotFound(status)) status.SetPayload(kErrorParamUrl, absl::Cord("input_file_id"));
    return status;
  }
  if (input->purpose != "batch") {
    return ParameterError("input_file_id", "invalid_value",
                          Concat("the file's purpose is ", input->purpose, "; wanted: batch"));
  }
  ASSIGN_OR_RETURN(Rows rows,
                   database_.Query("SELECT count(*) FROM batches WHERE tenant = ? AND status IN "
                                   "(0, 1, 2, 6)",
                                   tenant));
  const int64_t open = rows.Next() ? rows.Integer(0) : 0;
  RETURN_IF_ERROR(rows.status());
  if (open >= bounds_.tenant_batches_max) {
    return absl::ResourceExhaustedError(
        Concat("you have ", open,
               " batches that are not at their end, which is the most; wait for "
               "one, or cancel it"));
  }
  RETURN_IF_ERROR(CheckRoom(tenant, 0));
  RETURN_IF_ERROR(
      database_.Run("DELETE FROM batches WHERE id IN (SELECT id FROM batches WHERE tenant = ? AND "
                    "status IN (3, 4, "
                    "5, 7) ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                    tenant, bounds_.tenant_ended_max));
  Batch batch{.id = MakeStateId("batch_"),
              .tenant = std::string(tenant),
              .endpoint = wish.endpoint,
              .input_file = wish.input_file,
              .output_kept_seconds = wish.output_kept_seconds,
              .metadata_json = wish.metadata_json};
  const int64_t now = NowUnix();
  batch.came_unix[0] = now;
  batch.expires_unix = now + absl::ToInt64Seconds(bounds_.completion_window);
  RETURN_IF_ERROR(database_.Run(
      "INSERT INTO batches (id, tenant, endpoint, input_file, metadata, status, expires, "
      "output_kept, created) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?)",
      batch.id, batch.tenant, batch.endpoint, batch.input_file, batch.metadata_json,
      batch.expires_unix, batch.output_kept_seconds, now));
  return batch;
}

absl::StatusOr<Batch> BatchStore::FindBatch(std::string_view tenant, std::string_view id) {
  ASSIGN_OR_RETURN(Rows rows, database_.Query(Concat("SELECT ", kBatchColumns,
                                                     " FROM batches WHERE id = ? AND tenant = ?"),
                                              id, tenant));
  if (rows.Next()) return BatchOf(rows);
  RETURN_IF_ERROR(rows.status());
  return NoSuch("batch", "batch_id", id);
}

absl::StatusOr<Listed<Batch>> BatchStore::ListBatches(std::string_view tenant,
                                                      const ListWish& wish) {
  ASSIGN_OR_RETURN(
      Rows rows, database_.Query(Concat("SELECT ", kBatchColumns, " FROM batches WHERE tenant = ?",
                                        PageOf("batches", wish)),
                                 tenant, wish.after, wish.after, wish.limit + 1));
  return PageFrom<Batch>(std::move(rows), wish.limit, BatchOf);
}

absl::Status BatchStore::MoveTo(const std::string& batch, BatchStatus status) {
  const auto number = static_cast<int64_t>(status);
  return database_.Run(Concat("UPDATE batches SET status = ?, came_", number, " = ? WHERE id = ?"),
                       number, NowUnix(), batch);
}

absl::StatusOr<Batch> BatchStore::CancelBatch(std::string_view tenant, std::string_view id) {
  ASSIGN_OR_RETURN(const Batch batch, FindBatch(tenant, id));
  if (IsEnd(batch.status)) {
    return absl::FailedPreconditionError(Concat("the batch is ", BatchStatusName(batch.status),
                                                " and cannot be cancelled any more"));
  }
  if (batch.status == BatchStatus::kValidating || batch.status == BatchStatus::kInProgress) {
    RETURN_IF_ERROR(MoveTo(batch.id, BatchStatus::kCancelling));
  }
  return FindBatch(tenant, id);
}

absl::StatusOr<std::vector<Batch>> BatchStore::UnfinishedBatches() {
  ASSIGN_OR_RETURN(Rows rows, database_.Query(Concat("SELECT ", kBatchColumns,
                                                     " FROM batches WHERE status IN (0, 1, 2, 6) "
                                                     "ORDER BY rowid")));
  std::vector<Batch> batches;
  while (rows.Next()) batches.push_back(BatchOf(rows));
  RETURN_IF_ERROR(rows.status());
  return batches;
}

absl::StatusOr<Batch> BatchStore::Validate(const Batch& batch) {
  CHECK(batch.status == BatchStatus::kValidating);
  BatchInput input;
  const absl::StatusOr<std::string> content = FileContent(batch.tenant, batch.input_file);
  if (content.ok()) {
    input = ReadBatchInput(*content, batch.endpoint);
  } else if (absl::IsNotFound(content.status())) {
    input.faults.push_back({.code = "input_file_gone",
                            .message = "the input file was deleted before it was read",
                            .param = "input_file_id"});
  } else {
    return content.status();
  }
  Transaction transaction(database_);
  RETURN_IF_ERROR(transaction.status());
  if (!input.faults.empty()) {
    RETURN_IF_ERROR(database_.Run("UPDATE batches SET faults = ? WHERE id = ?",
                                  FaultsJson(input.faults), batch.id));
    RETURN_IF_ERROR(MoveTo(batch.id, BatchStatus::kFailed));
  } else {
    for (const BatchLine& line : input.lines) {
      RETURN_IF_ERROR(
          database_.Run("INSERT INTO lines (batch, line, custom_id, body) VALUES (?, ?, ?, ?)",
                        batch.id, line.line, line.custom_id, line.body));
    }
    RETURN_IF_ERROR(database_.Run("UPDATE batches SET total = ? WHERE id = ?",
                                  static_cast<int64_t>(input.lines.size()), batch.id));
    RETURN_IF_ERROR(MoveTo(batch.id, BatchStatus::kInProgress));
  }
  RETURN_IF_ERROR(transaction.Commit());
  return FindBatch(batch.tenant, batch.id);
}

absl::StatusOr<std::vector<OpenLine>> BatchStore::OpenLines(const std::string& batch, int64_t after,
                                                            int64_t count) {
  ASSIGN_OR_RETURN(Rows rows, database_.Query("SELECT line, custom_id, body FROM lines WHERE batch "
                                              "= ? AND line > ? AND answer IS NULL ORDER BY line "
                                              "LIMIT ?",
                                              batch, after, count));
  std::vector<OpenLine> lines;
  while (rows.Next()) {
    lines.push_back({.line = rows.Integer(0),
                     .custom_id = std::string(rows.Text(1)),
                     .body = std::string(rows.Text(2))});
  }
  RETURN_IF_ERROR(rows.status());
  return lines;
}

absl::Status BatchStore::KeepAnswers(const std::vector<Answer>& answers) {
  Transaction transaction(database_);
  RETURN_IF_ERROR(transaction.status());
  RETURN_IF_ERROR(KeepWithin(answers));
  return transaction.Commit();
}

// `answer`, or an error in its place where the batch's files would become too large.
absl::StatusOr<BatchStore::Answer> BatchStore::Fitted(const Answer& answer) {
  ASSIGN_OR_RETURN(Rows rows, database_.Query("SELECT answer_bytes, custom_id FROM batches, lines "
                                              "WHERE id = ? AND batch = id AND line = ?",
                                              answer.batch, answer.line));
  if (!rows.Next()) return rows.status().ok() ? absl::StatusOr<Answer>(answer) : rows.status();
  const auto size = static_cast<int64_t>(answer.json.size());
  if (size < kSmallAnswer || rows.Integer(0) + size <= bounds_.answer_bytes_max) return answer;
  return Answer{answer.batch, answer.line,
                ErrorLine(rows.Text(1), "output_too_large",
                          "the answers of this batch are larger than the server keeps of one; make "
                          "several, or ask for less"),
                true};
}

// Within a transaction of the caller's.
absl::Status BatchStore::KeepWithin(const std::vector<Answer>& answers) {
  for (const Answer& one : answers) {
    ASSIGN_OR_RETURN(const Answer answer, Fitted(one));
    RETURN_IF_ERROR(database_.Run(
        "UPDATE lines SET answer = ?, failed = ? WHERE batch = ? AND line = ? AND answer IS NULL",
        answer.json, static_cast<int64_t>(answer.failed), answer.batch, answer.line));
    if (database_.rows_changed() == 0) continue;  // it has one
    RETURN_IF_ERROR(
        database_.Run(answer.failed ? "UPDATE batches SET failed = failed + 1, answer_bytes = "
                                      "answer_bytes + ? WHERE id = ?"
                                    : "UPDATE batches SET completed = completed + 1, answer_bytes "
                                      "= answer_bytes + ? WHERE id = ?",
                      static_cast<int64_t>(answer.json.size()), answer.batch));
  }
  return absl::OkStatus();
}

// One file of the lines that failed, or of those that did not; none where there are none.
absl::StatusOr<std::optional<std::string>> BatchStore::WriteAnswers(const Batch& batch,
                                                                    bool failed) {
  std::string content;
  {
    ASSIGN_OR_RETURN(Rows rows,
                     database_.Query("SELECT answer FROM lines WHERE batch = ? AND answer IS NOT "
                                     "NULL AND failed = ? ORDER BY line",
                                     batch.id, static_cast<int64_t>(failed)));
    while (rows.Next()) {
      content.append(rows.Text(0));
      content.push_back('\n');
    }
    RETURN_IF_ERROR(rows.status());
  }
  if (content.empty()) return std::optional<std::string>();
  // Without a look at the tenant's room: what was computed is theirs.
  const std::string id = MakeStateId("file-");
  const int64_t now = NowUnix();
  std::optional<int64_t> expires;
  if (batch.output_kept_seconds.has_value()) expires = now + *batch.output_kept_seconds;
  RETURN_IF_ERROR(database_.Run(
      "INSERT INTO files (id, tenant, name, purpose, created, expires, bytes, content) VALUES "
      "(?, ?, ?, 'batch_output', ?, ?, ?, ?)",
      id, batch.tenant, Concat(batch.id, failed ? "_error.jsonl" : "_output.jsonl"), now, expires,
      static_cast<int64_t>(content.size()), content));
  return std::optional<std::string>(id);
}

absl::StatusOr<Batch> BatchStore::Finish(const Batch& batch) {
  const bool cancelled = batch.status == BatchStatus::kCancelling;
  Transaction transaction(database_);
  RETURN_IF_ERROR(transaction.status());
  std::vector<Answer> left;
  if (!cancelled) {
    ASSIGN_OR_RETURN(Rows rows, database_.Query("SELECT line, custom_id FROM lines WHERE batch = ? "
                                                "AND answer IS NULL ORDER BY line",
                                                batch.id));
    while (rows.Next()) {
      left.push_back({batch.id, rows.Integer(0),
                      ErrorLine(rows.Text(1), "batch_expired",
                                "the batch's time was over before this request was run"),
                      true});
    }
    RETURN_IF_ERROR(rows.status());
  }
  const bool expired = !left.empty();
  RETURN_IF_ERROR(KeepWithin(left));
  ASSIGN_OR_RETURN(const std::optional<std::string> output, WriteAnswers(batch, false));
  ASSIGN_OR_RETURN(const std::optional<std::string> errors, WriteAnswers(batch, true));
  RETURN_IF_ERROR(database_.Run("UPDATE batches SET output_file = ?, error_file = ? WHERE id = ?",
                                output, errors, batch.id));
  if (!cancelled) RETURN_IF_ERROR(MoveTo(batch.id, BatchStatus::kFinalizing));
  RETURN_IF_ERROR(MoveTo(batch.id, cancelled ? BatchStatus::kCancelled
                                   : expired ? BatchStatus::kExpired
                                             : BatchStatus::kCompleted));
  RETURN_IF_ERROR(database_.Run("DELETE FROM lines WHERE batch = ?", batch.id));
  RETURN_IF_ERROR(transaction.Commit());
  return FindBatch(batch.tenant, batch.id);
}

absl::Status BatchStore::DeleteExpired() {
  const int64_t now = NowUnix();
  RETURN_IF_ERROR(database_.Run("DELETE FROM files WHERE expires <= ?", now));
  return database_.Run(
      "DELETE FROM batches WHERE status IN (3, 4, 5, 7) AND "
      "coalesce(came_3, came_4, came_5, came_7) <= ?",
      now - absl::ToInt64Seconds(bounds_.kept_for));
}

}  // namespace holdfast
