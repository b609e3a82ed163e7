#include "server/database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "config/base/concat.h"
#include "config/base/status_macros.h"

namespace holdfast {
namespace {

constexpr int64_t kSchemaVersion = 1;

// Of a file that several use: for how long one waits for the other's transaction.
constexpr int kTurnMilliseconds = 2000;

// Where there is no file: an empty one, which nobody else may read. SQLite gives its side files the
// same mode.
absl::Status MakePrivateFile(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) {
    return absl::UnavailableError(
        Concat("the database ", path, " cannot be opened: ", std::strerror(errno)));
  }
  ::close(file);
  return absl::OkStatus();
}

}  // namespace

// ---- Rows --------------------------------------------------------------------------------------

Rows::Rows(Rows&& other) noexcept
    : database_(other.database_),
      statement_(std::exchange(other.statement_, nullptr)),
      status_(std::move(other.status_)) {}

Rows::~Rows() { sqlite3_finalize(statement_); }

bool Rows::Next() {
  if (!status_.ok()) return false;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) status_ = database_->Fault(code);
  return false;
}

int64_t Rows::Integer(int column) const { return sqlite3_column_int64(statement_, column); }

double Rows::Real(int column) const { return sqlite3_column_double(statement_, column); }

std::string_view Rows::Text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return {static_cast<const char*>(bytes), bytes == nullptr ? 0 : static_cast<size_t>(size)};
}

std::optional<int64_t> Rows::MaybeInteger(int column) const {
  if (sqlite3_column_type(statement_, column) == SQLITE_NULL) return std::nullopt;
  return Integer(column);
}

// ---- Database ----------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Database>> Database::Connect(const std::string& path, int flags) {
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<Database> database(new Database(path, handle));
  if (code != SQLITE_OK) return database->Fault(code);
  return database;
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& path,
                                                         const char* schema, DatabaseUse use) {
  RETURN_IF_ERROR(MakePrivateFile(path));
  ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Connect(path, SQLITE_OPEN_READWRITE));
  RETURN_IF_ERROR(database->Begin(schema, use));
  return database;
}

absl::StatusOr<std::unique_ptr<Database>> Database::OpenToRead(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) {
    return absl::NotFoundError(Concat("the database ", path, " is not there"));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Connect(path, SQLITE_OPEN_READONLY));
  sqlite3_busy_timeout(database->handle_, kTurnMilliseconds);
  ASSIGN_OR_RETURN(const int64_t version, database->Version());
  if (version == 0) return absl::NotFoundError(Concat("the database ", path, " is empty"));
  return database;
}

Database::~Database() { sqlite3_close_v2(handle_); }

absl::Status Database::Begin(const char* schema, DatabaseUse use) {
  if (use == DatabaseUse::kAlone) {
    RETURN_IF_ERROR(Run("PRAGMA locking_mode = EXCLUSIVE"));
  } else {
    sqlite3_busy_timeout(handle_, kTurnMilliseconds);
  }
  RETURN_IF_ERROR(Run("PRAGMA journal_mode = WAL"));
  RETURN_IF_ERROR(Run("PRAGMA synchronous = FULL"));
  RETURN_IF_ERROR(Run("PRAGMA foreign_keys = ON"));
  Transaction transaction(*this);  // takes the lock, which one who is alone then keeps
  RETURN_IF_ERROR(transaction.status());
  ASSIGN_OR_RETURN(const int64_t version, Version());
  if (version == 0) {
    if (const int code = sqlite3_exec(handle_, schema, nullptr, nullptr, nullptr);
        code != SQLITE_OK) {
      return Fault(code);
    }
    RETURN_IF_ERROR(Run(Concat("PRAGMA user_version = ", kSchemaVersion)));
  }
  return transaction.Commit();
}

// Of its tables; 0: it has none yet.
absl::StatusOr<int64_t> Database::Version() {
  int64_t version = 0;
  ASSIGN_OR_RETURN(Rows rows, Query("PRAGMA user_version"));
  if (rows.Next()) version = rows.Integer(0);
  RETURN_IF_ERROR(rows.status());
  if (version > kSchemaVersion) {
    return absl::FailedPreconditionError(
        Concat("the database ", path_,
               " was written by a newer version of Holdfast (its tables are "
               "of version ",
               version, ", this one reads ", kSchemaVersion,
               "); run that version, or name another file in the settings"));
  }
  return version;
}

int64_t Database::rows_changed() const { return sqlite3_changes(handle_); }

absl::StatusOr<Rows> Database::Prepare(std::string_view sql) const {
  sqlite3_stmt* statement = nullptr;
  const int code =
      sqlite3_prepare_v2(handle_, sql.data(), static_cast<int>(sql.size()), &statement, nullptr);
  if (code != SQLITE_OK) return Fault(code);
  return Rows(*this, statement);
}

absl::Status Database::Fault(int code) const {
  const std::string_view what = sqlite3_errmsg(handle_);
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::FailedPreconditionError(
          Concat("the database ", path_,
                 " is in use by another process; stop that one, or name "
                 "another file in the settings"));
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
      return absl::UnavailableError(Concat("the database ", path_, ": ", what));
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return absl::InternalError(
          Concat("the database ", path_, " is no database or is damaged: ", what));
    default:
      return absl::InternalError(Concat("the database ", path_, ": ", what));
  }
}

void Database::Bind(Rows& rows, int place, int64_t value) {
  if (const int code = sqlite3_bind_int64(rows.statement_, place, value); code != SQLITE_OK) {
    rows.status_ = rows.database_->Fault(code);
  }
}

// Copied: what the caller has may be gone when the rows are read.
void Database::Bind(Rows& rows, int place, std::string_view text) {
  const int code = sqlite3_bind_text64(rows.statement_, place, text.empty() ? "" : text.data(),
                                       text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  if (code != SQLITE_OK) rows.status_ = rows.database_->Fault(code);
}

void Database::Bind(Rows& rows, int place, std::nullptr_t) {
  if (const int code = sqlite3_bind_null(rows.statement_, place); code != SQLITE_OK) {
    rows.status_ = rows.database_->Fault(code);
  }
}

}  // namespace holdfast
