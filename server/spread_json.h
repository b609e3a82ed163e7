#pragma once

#include <nlohmann/json.hpp>

#include "server/spread.h"

namespace holdfast {

inline nlohmann::ordered_json SpreadJson(const Spread& spread) {
  return {{"median", spread.median}, {"lowest", spread.lowest}, {"highest", spread.highest}};
}

}  // namespace holdfast
