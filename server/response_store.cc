#include "server/response_store.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/generation.h"
#include "server/http_status.h"
#include "server/responses_answer.h"

namespace holdfast {
namespace {

std::string OutputOf(const Json& response) {
  const auto output = response.find("output");
  return output == response.end() ? "[]" : DumpJson(*output);
}

absl::Status NoSuch(std::string_view id) {
  absl::Status status = absl::NotFoundError(Concat("you have no response `", id.substr(0, 128),
                                                   "`; it may have been deleted or have expired"));
  status.SetPayload(kErrorParamUrl, absl::Cord("response_id"));
  return status;
}

}  // namespace

absl::Status ResponseStore::Add(std::string_view tenant, const StoredResponse& response,
                                bool open) {
  const std::string input = DumpJson(response.input), body = DumpJson(response.response);
  const std::string output = OutputOf(response.response);
  Transaction transaction(database_);
  RETURN_IF_ERROR(transaction.status());
  RETURN_IF_ERROR(database_.Run(
      "INSERT INTO responses (id, tenant, previous, created, open, bytes, input, output, response) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
      response.id, tenant, response.previous, absl::ToUnixSeconds(clock_.Now()),
      static_cast<int64_t>(open), static_cast<int64_t>(input.size() + output.size() + body.size()),
      input, output, body));
  // The oldest make room; never the one just added.
  while (true) {
    ASSIGN_OR_RETURN(Rows rows, database_.Query("SELECT count(*), coalesce(sum(bytes), 0) FROM "
                                                "responses WHERE tenant = ?",
                                                tenant));
    if (!rows.Next()) return rows.status();
    const int64_t count = rows.Integer(0), bytes = rows.Integer(1);
    if (count <= 1) break;
    if (count <= bounds_.tenant_responses_max && bytes <= bounds_.tenant_bytes_max) break;
    RETURN_IF_ERROR(database_.Run(
        "DELETE FROM responses WHERE id IN (SELECT id FROM responses WHERE tenant = ? AND id != ? "
        "ORDER BY created, id LIMIT max(1, ? / 100))",
        tenant, response.id, count));
  }
  return transaction.Commit();
}

absl::Status ResponseStore::WriteEnd(std::string_view id, const Json& response) {
  const std::string body = DumpJson(response), output = OutputOf(response);
  return database_.Run(
      "UPDATE responses SET open = 0, response = ?, output = ?, bytes = length(CAST(input AS "
      "BLOB)) "
      "+ ? WHERE id = ? AND open = 1",
      body, output, static_cast<int64_t>(body.size() + output.size()), id);
}

absl::Status ResponseStore::End(std::string_view id, const Json& response) {
  if (unwritten_.contains(id)) return absl::OkStatus();
  absl::Status status = WriteEnd(id, response);
  if (!status.ok()) {
    std::string body = DumpJson(response);
    if (unwritten_bytes_ + body.size() > bounds_.unwritten_bytes_max) body.clear();
    unwritten_bytes_ += body.size();
    unwritten_.emplace(id, std::move(body));
  }
  return status;
}

// `response` as it was written, or its end where that is in memory.
absl::StatusOr<Json> ResponseStore::WithEnd(std::string_view id, Json response) const {
  const auto end = unwritten_.find(id);
  if (end == unwritten_.end()) return response;
  if (!end->second.empty()) return ParseOwnJson(end->second);
  SetFailed(HttpError(500, "server_error",
                      "the answer could not be written to the server's disk; ask again later"),
            response);
  return response;
}

void ResponseStore::Forget(std::string_view id) {
  const auto end = unwritten_.find(id);
  if (end == unwritten_.end()) return;
  unwritten_bytes_ -= end->second.size();
  unwritten_.erase(end);
}

absl::Status ResponseStore::WriteEnds() {
  while (has_unwritten()) {
    const std::string id = unwritten_.begin()->first;
    Json written;  // stays empty where it was deleted
    {
      ASSIGN_OR_RETURN(Rows rows,
                       database_.Query("SELECT response FROM responses WHERE id = ?", id));
      if (rows.Next()) {
        ASSIGN_OR_RETURN(written, ParseOwnJson(AbslView(rows.Text(0))));
      }
      RETURN_IF_ERROR(rows.status());
    }
    ASSIGN_OR_RETURN(const Json end, WithEnd(id, std::move(written)));
    RETURN_IF_ERROR(WriteEnd(id, end));
    Forget(id);
  }
  return absl::OkStatus();
}

absl::StatusOr<StoredResponse> ResponseStore::Find(std::string_view tenant, std::string_view id) {
  ASSIGN_OR_RETURN(Rows rows, database_.Query("SELECT id, previous, input, response FROM responses "
                                              "WHERE id = ? AND tenant = ?",
                                              id, tenant));
  if (!rows.Next()) return rows.status().ok() ? NoSuch(id) : rows.status();
  StoredResponse found{.id = std::string(rows.Text(0)), .previous = std::string(rows.Text(1))};
  ASSIGN_OR_RETURN(found.input, ParseOwnJson(AbslView(rows.Text(2))));
  ASSIGN_OR_RETURN(Json response, ParseOwnJson(AbslView(rows.Text(3))));
  ASSIGN_OR_RETURN(found.response, WithEnd(id, std::move(response)));
  return found;
}

absl::Status ResponseStore::Delete(std::string_view tenant, std::string_view id) {
  RETURN_IF_ERROR(database_.Run("DELETE FROM responses WHERE id = ? AND tenant = ?", id, tenant));
  if (database_.rows_changed() == 0) return NoSuch(id);
  Forget(id);
  return absl::OkStatus();
}

// How long it is, before any of it is read.
absl::StatusOr<std::vector<std::string>> ResponseStore::Chain(std::string_view tenant,
                                                              std::string_view id) {
  const auto refuse = [](std::string_view what) {
    return ParameterError("previous_response_id", "invalid_value", AbslView(what));
  };
  std::vector<std::string> chain;
  int64_t bytes = 0;
  for (std::string next(id); !next.empty();) {
    ASSIGN_OR_RETURN(Rows rows,
                     database_.Query("SELECT previous, open, length(CAST(input AS BLOB)) + "
                                     "length(CAST(output AS BLOB)) FROM responses WHERE id = ? AND "
                                     "tenant = ?",
                                     next, tenant));
    if (!rows.Next()) return rows.status().ok() ? NoSuch(next) : rows.status();
    if (unwritten_.contains(next)) {
      return absl::UnavailableError(
          Concat("the answer `", next, "` is not written to the disk yet; send the request again"));
    }
    if (rows.Integer(1) != 0) {
      return refuse(Concat("the response `", next, "` is not at its end; ask for it until it is"));
    }
    bytes += rows.Integer(2);
    chain.push_back(next);
    if (static_cast<int32_t>(chain.size()) > bounds_.chain_max || bytes > bounds_.chain_bytes_max) {
      return refuse(Concat("the conversation is longer than ", bounds_.chain_max, " responses or ",
                           bounds_.chain_bytes_max,
                           " bytes; send what matters of it as input of a new one"));
    }
    next = std::string(rows.Text(0));
  }
  return chain;
}

absl::StatusOr<Json> ResponseStore::Conversation(std::string_view tenant, std::string_view id) {
  ASSIGN_OR_RETURN(const std::vector<std::string> chain, Chain(tenant, id));
  Json items = Json::array();
  for (auto next = chain.rbegin(); next != chain.rend(); ++next) {
    ASSIGN_OR_RETURN(Rows rows,
                     database_.Query("SELECT input, output FROM responses WHERE id = ?", *next));
    if (!rows.Next()) return rows.status().ok() ? NoSuch(*next) : rows.status();
    for (const int column : {0, 1}) {
      ASSIGN_OR_RETURN(Json part, ParseOwnJson(AbslView(rows.Text(column))));
      for (Json& item : part) items.push_back(std::move(item));
    }
  }
  return items;
}

absl::Status ResponseStore::FailOpen() {
  std::vector<std::pair<std::string, Json>> open;
  {
    ASSIGN_OR_RETURN(Rows rows,
                     database_.Query("SELECT id, response FROM responses WHERE open = 1"));
    while (rows.Next()) {
      ASSIGN_OR_RETURN(Json response, ParseOwnJson(AbslView(rows.Text(1))));
      open.emplace_back(rows.Text(0), std::move(response));
    }
    RETURN_IF_ERROR(rows.status());
  }
  const OpenAiError error = HttpError(500, "server_error", "the server was restarted meanwhile");
  for (auto& [id, response] : open) {
    SetFailed(error, response);
    RETURN_IF_ERROR(End(id, response));
  }
  return absl::OkStatus();
}

absl::Status ResponseStore::DeleteExpired() {
  return database_.Run("DELETE FROM responses WHERE created <= ? AND open = 0",
                       absl::ToUnixSeconds(clock_.Now() - bounds_.kept_for));
}

}  // namespace holdfast
