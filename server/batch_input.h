// The input file of a batch: one JSON object a line,
//   {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
// Empty lines are passed over. Of the body only that it is an object is looked at here; what it
// asks for is checked when it is run, and is then an error of that line alone.
//
// Thread: any; pure. Bounds: kBatchLinesMax, kRequestBodyBytesMax of one line, json_body.h's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/limits.h"

namespace holdfast {

inline constexpr int64_t kBatchLinesMax = 50'000;
inline constexpr size_t kBatchFaultsMax = 100;  // told of one file
inline constexpr size_t kCustomIdBytesMax = 512;

struct BatchLine {
  int64_t line = 0;  // of the file, from 1
  std::string custom_id;
  std::string body;  // JSON, as it stands in the file but for white space
};

struct BatchFault {
  std::string code, message, param;
  int64_t line = 0;  // 0: of the whole file
};

struct BatchInput {
  std::vector<BatchLine> lines;
  std::vector<BatchFault> faults;  // not empty: nothing of it may be run
};

// `endpoint`: the only url that its lines may name.
BatchInput ReadBatchInput(std::string_view content, std::string_view endpoint);

// Paths that a batch may name.
bool IsBatchEndpoint(std::string_view path);
inline constexpr char kBatchEndpoints[] = "/v1/chat/completions, /v1/completions, /v1/embeddings";

}  // namespace holdfast
