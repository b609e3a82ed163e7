// What becomes of a pooled hidden state: an embedding of length 1, and how alike two of them are.
//
// Thread: any; pure. Sums in f64, in the order of the numbers, so that the same state gives the
// same bits.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace holdfast {

// The first `dimensions` numbers, all by default, brought to length 1; of length 0 it stays so.
std::vector<float> ToEmbedding(std::vector<float> state, std::optional<int32_t> dimensions);

// The cosine of the angle between two of the same size, from -1 to 1: exactly 1 for one and the
// same; 0 where one has no length.
float CosineOf(std::span<const float> a, std::span<const float> b);

}  // namespace holdfast
