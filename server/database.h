// One SQLite file as a database: what the daemon keeps over a restart.
//
// A transaction that Commit said is kept is kept, also when the process is killed or the machine
// loses its power (WAL, synchronous=FULL).
//
//   ASSIGN_OR_RETURN(Rows rows, database.Query("SELECT name FROM files WHERE id = ?", id));
//   while (rows.Next()) Use(rows.Text(0));
//   RETURN_IF_ERROR(rows.status());
//
// Errors: kUnavailable where the disk is full or cannot be read, kInternal for the rest (a bug, or
// a damaged file). Messages name the file, and no value.
//
// Thread: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct sqlite3;
struct sqlite3_stmt;

namespace holdfast {

class Database;

// The rows of one statement, one at a time. Must go before its database.
class Rows final {
 public:
  Rows(Rows&&) noexcept;
  Rows& operator=(Rows&&) = delete;
  ~Rows();

  bool Next();  // false: no more, or a fault
  const absl::Status& status() const { return status_; }

  // Of the row that Next came to. A NULL reads as 0 or as empty.
  int64_t Integer(int column) const;
  double Real(int column) const;
  std::string_view Text(int column) const;  // until the next Next
  std::optional<int64_t> MaybeInteger(int column) const;

 private:
  friend class Database;
  Rows(const Database& database, sqlite3_stmt* statement)
      : database_(&database), statement_(statement) {}

  const Database* database_;
  sqlite3_stmt* statement_;
  absl::Status status_;
};

enum class DatabaseUse : uint8_t {
  kAlone,   // a second process is refused at Open
  kShared,  // others may read meanwhile, and write in turn
};

class Database final {
 public:
  // Made if it is not there, readable by its owner alone. `schema`: statements that make version 1
  // of the tables in an empty file. kFailedPrecondition: another process has it, or a newer version
  // of ours wrote it.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path, const char* schema,
                                                        DatabaseUse use = DatabaseUse::kAlone);
  // For reading alone; others may write it meanwhile. kNotFound: there is no file, or no table.
  static absl::StatusOr<std::unique_ptr<Database>> OpenToRead(const std::string& path);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // `values`, of int64_t, text or optionals of them, stand for the question marks in `sql`.
  template <typename... Values>
  absl::StatusOr<Rows> Query(std::string_view sql, const Values&... values) {
    absl::StatusOr<Rows> rows = Prepare(sql);
    [[maybe_unused]] int place = 0;
    if (rows.ok()) (Bind(*rows, ++place, values), ...);
    return rows;
  }
  // For what gives no rows.
  template <typename... Values>
  absl::Status Run(std::string_view sql, const Values&... values) {
    absl::StatusOr<Rows> rows = Query(sql, values...);
    if (!rows.ok()) return rows.status();
    while (rows->Next()) {
    }
    return rows->status();
  }
  int64_t rows_changed() const;  // by the last Run

 private:
  friend class Rows;
  Database(std::string path, sqlite3* handle) : path_(std::move(path)), handle_(handle) {}

  static absl::StatusOr<std::unique_ptr<Database>> Connect(const std::string& path, int flags);
  absl::Status Begin(const char* schema, DatabaseUse use);
  absl::StatusOr<int64_t> Version();
  absl::StatusOr<Rows> Prepare(std::string_view sql) const;
  absl::Status Fault(int code) const;

  static void Bind(Rows& rows, int place, int64_t value);
  static void Bind(Rows& rows, int place, std::string_view text);
  static void Bind(Rows& rows, int place, std::nullptr_t);
  template <typename T>
  static void Bind(Rows& rows, int place, const std::optional<T>& value) {
    value.has_value() ? Bind(rows, place, *value) : Bind(rows, place, nullptr);
  }

  const std::string path_;
  sqlite3* const handle_;
};

// All that is run between this and Commit, or nothing of it; to be asked whether it has begun.
class Transaction final {
 public:
  explicit Transaction(Database& database)
      : database_(database), status_(database.Run("BEGIN IMMEDIATE")), open_(status_.ok()) {}
  ~Transaction() {
    if (open_) database_.Run("ROLLBACK").IgnoreError();
  }
  Transaction(const Transaction&) = delete;

  const absl::Status& status() const { return status_; }  // whether it has begun
  absl::Status Commit() {
    if (!open_) return status_;
    status_ = database_.Run("COMMIT");
    open_ = !status_.ok();
    return status_;
  }

 private:
  Database& database_;
  absl::Status status_;
  bool open_;
};

}  // namespace holdfast
