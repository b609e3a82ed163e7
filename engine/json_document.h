// JSON from a model's files, parsed under bounds: nesting to kJsonDepthMax, no key twice in one
// object, the top an object, and never an exception. Used by safetensors_file.cc and hf_*.cc only.
//
// The typed look-ups give nullopt when the key is absent or null, and an error naming the key when
// it holds something else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace holdfast {

// A document whose text comes from one file (`name`, for messages), or one object inside it.
class JsonDocument final {
 public:
  static absl::StatusOr<JsonDocument> Parse(absl::string_view text, std::string name);

  const std::string& name() const { return name_; }
  const nlohmann::json& top() const { return top_; }

  bool Has(absl::string_view key) const { return Find(key) != nullptr; }
  const nlohmann::json* Find(absl::string_view key) const;  // null: absent or JSON null
  absl::StatusOr<std::optional<int32_t>> Count(absl::string_view key) const;  // integer >= 0
  absl::StatusOr<std::optional<float>> Number(absl::string_view key) const;   // finite
  absl::StatusOr<std::optional<bool>> Flag(absl::string_view key) const;
  absl::StatusOr<std::optional<std::string>> Text(absl::string_view key) const;
  // The object under `key` as a document of its own, named `name (key)`.
  absl::StatusOr<std::optional<JsonDocument>> Object(absl::string_view key) const;

 private:
  JsonDocument(std::string name, nlohmann::json top)
      : name_(std::move(name)), top_(std::move(top)) {}

  std::string name_;
  nlohmann::json top_;
};

}  // namespace holdfast
