#include "server/http_state.h"

#include <string>

#include "config/base/status_macros.h"
#include "server/batch_requests.h"
#include "server/http_router.h"
#include "server/http_status.h"

namespace holdfast {

absl::StatusOr<ListWish> ReadListWish(const HttpRequest& request, int64_t limit, int64_t most) {
  ListWish wish{.after = QueryValue(request.query, "after"), .limit = limit};
  if (const std::string text = QueryValue(request.query, "limit"); !text.empty()) {
    ASSIGN_OR_RETURN(wish.limit, ReadPageLimit(text, most));
  }
  const std::string order = QueryValue(request.query, "order");
  if (!order.empty() && order != "asc" && order != "desc") {
    return ParameterError("order", "invalid_value", "order must be asc or desc");
  }
  wish.oldest_first = order == "asc";
  return wish;
}

}  // namespace holdfast
