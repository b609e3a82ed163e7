// How the hidden states of a prompt become one vector, its embedding.
#pragma once

#include <cstdint>

namespace holdfast {

enum class Pooling : uint8_t {
  kNone,  // no embedding is wanted
  kLast,  // the last token's: the only one that has seen all others
  kMean,  // the mean of all tokens'
};

}  // namespace holdfast
