// Responses that are kept: what was asked for and answered, to be read again and gone on from
// (`previous_response_id`).
//
// A tenant's responses are bounded in number and bytes: the oldest make room. Each is also deleted
// some time after it was made. One that is in progress when the process ends has failed.
//
//   Add(open) --> open --End--> at its end
//                   \--End--> at its end, in memory --WriteEnds--> at its end
//                (not written)        \-- the process ends --> failed
//
// Errors: kNotFound, also for another tenant's; and what database.h says.
//
// Thread: one at a time. Bound: ResponseBounds.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/limits.h"
#include "server/database.h"
#include "server/json_body.h"

namespace holdfast {

struct ResponseBounds {
  int64_t tenant_bytes_max = int64_t{1} << 30;
  int64_t tenant_responses_max = 100'000;
  absl::Duration kept_for = absl::Hours(24 * 30);
  int32_t chain_max = 1000;  // responses that one goes on from, one after the other
  int64_t chain_bytes_max = static_cast<int64_t>(kRequestBodyBytesMax);  // of their items
  size_t unwritten_bytes_max = size_t{64} << 20;  // of ends in memory; those beyond have failed
};

struct StoredResponse {
  std::string id, previous;  // previous empty: it begins a conversation
  Json input;                // items
  Json response;             // as its caller sees it
};

class ResponseStore final {
 public:
  static constexpr char kSchema[] = R"sql(
CREATE TABLE responses (
  id TEXT PRIMARY KEY, tenant TEXT NOT NULL, previous TEXT NOT NULL, created INTEGER NOT NULL,
  open INTEGER NOT NULL, bytes INTEGER NOT NULL, input TEXT NOT NULL, output TEXT NOT NULL,
  response TEXT NOT NULL);
CREATE INDEX responses_of_tenant ON responses (tenant, created, id, bytes);
CREATE INDEX responses_by_age ON responses (created) WHERE open = 0;
)sql";

  // Both must outlive this.
  ResponseStore(Database& database, ResponseBounds bounds, const Clock& clock)
      : database_(database), bounds_(bounds), clock_(clock) {}

  // `open`: it is not at its end.
  absl::Status Add(std::string_view tenant, const StoredResponse& response, bool open);
  // One that is open; nothing where it has been deleted meanwhile, or is not open any more. An end
  // that cannot be written, which the error says, is in memory then and shown from there.
  absl::Status End(std::string_view id, const Json& response);
  bool has_unwritten() const { return !unwritten_.empty(); }
  absl::Status WriteEnds();  // those in memory, until one cannot be written
  absl::StatusOr<StoredResponse> Find(std::string_view tenant, std::string_view id);
  absl::Status Delete(std::string_view tenant, std::string_view id);
  // The items of `id` and of what it goes on from, the oldest first. kInvalidArgument: more of them
  // than one request may have, or one of them is not at its end. kUnavailable: its end is not
  // written yet.
  absl::StatusOr<Json> Conversation(std::string_view tenant, std::string_view id);

  absl::Status FailOpen();  // of an earlier process
  absl::Status DeleteExpired();

 private:
  absl::StatusOr<std::vector<std::string>> Chain(std::string_view tenant, std::string_view id);
  absl::Status WriteEnd(std::string_view id, const Json& response);
  absl::StatusOr<Json> WithEnd(std::string_view id, Json response) const;
  void Forget(std::string_view id);

  Database& database_;
  const ResponseBounds bounds_;
  const Clock& clock_;
  // The response by its id; empty: there was no room for it. Each is of a row that is open, or that
  // has just been deleted.
  std::map<std::string, std::string, std::less<>> unwritten_;
  size_t unwritten_bytes_ = 0;
};

}  // namespace holdfast
