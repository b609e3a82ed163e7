#include "server/state.h"

#include "config/base/concat.h"
#include "config/base/status_macros.h"

namespace holdfast {

absl::StatusOr<std::unique_ptr<State>> State::Open(const std::string& path, StateBounds bounds,
                                                   const Clock& clock) {
  const std::string schema = Concat(BatchStore::kSchema, ResponseStore::kSchema);
  ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Database::Open(path, schema.c_str()));
  auto state = std::make_unique<State>(std::move(database), bounds, clock);
  RETURN_IF_ERROR(state->responses().FailOpen());
  return state;
}

}  // namespace holdfast
