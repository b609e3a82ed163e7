#include "server/http_state.h"

#include <string>

#include "absl/strings/numbers.h"
#include "config/base/concat.h"
#include "server/http_router.h"
#include "server/http_status.h"

namespace holdfast {

absl::StatusOr<ListWish> ReadListWish(const HttpRequest& request, int64_t limit, int64_t most) {
  ListWish wish{.after = QueryValue(request.query, "after"), .limit = limit};
  if (const std::string text = QueryValue(request.query, "limit"); !text.empty()) {
    if (!absl::SimpleAtoi(text, &wish.limit) || wish.limit < 1 || wish.limit > most) {
      return ParameterError(
          "limit", "invalid_value",
          Concat("limit must be a number from 1 to ", most, "; found ", text.substr(0, 32)));
    }
  }
  const std::string order = QueryValue(request.query, "order");
  if (!order.empty() && order != "asc" && order != "desc") {
    return ParameterError("order", "invalid_value", "order must be asc or desc");
  }
  wish.oldest_first = order == "asc";
  return wish;
}

}  // namespace holdfast
