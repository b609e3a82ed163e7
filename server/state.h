// What the daemon keeps over a restart, in one SQLite file: files and batches (batch_store.h) and
// responses (response_store.h).
//
// Thread: one at a time.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "config/base/clock.h"
#include "server/batch_store.h"
#include "server/database.h"
#include "server/response_store.h"

namespace holdfast {

struct StateBounds {
  BatchBounds batches;
  ResponseBounds responses;
};

class State final {
 public:
  // `clock` tells the date and must outlive this.
  static absl::StatusOr<std::unique_ptr<State>> Open(const std::string& path, StateBounds bounds,
                                                     const Clock& clock);

  State(std::unique_ptr<Database> database, StateBounds bounds, const Clock& clock)
      : database_(std::move(database)),
        batches_(*database_, bounds.batches, clock),
        responses_(*database_, bounds.responses, clock) {}

  BatchStore& batches() { return batches_; }
  ResponseStore& responses() { return responses_; }

 private:
  const std::unique_ptr<Database> database_;
  BatchStore batches_;
  ResponseStore responses_;
};

}  // namespace holdfast
