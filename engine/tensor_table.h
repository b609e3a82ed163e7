// The tensors of a model by name, whatever format they came from, and how a ModelConfig binds them
// to their places. A tensor is taken once, with the shape that the config wants; what is missing,
// misshaped or left over is refused, so that no arithmetic is silently dropped.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/model_config.h"
#include "engine/weights.h"

namespace holdfast {

// How a format calls the parts. Each is followed by `.weight` or `.bias`.
struct TensorNames {
  absl::string_view embedding, final_norm, head, layer_prefix;  // layer: prefix, number, dot, part
  absl::string_view attention_norm, q, k, v, o, q_norm, k_norm, mlp_norm, gate, up, down;
};

class TensorTable final {
 public:
  explicit TensorTable(std::string file) : file_(std::move(file)) {}

  // `type` nullopt: an element type without arithmetic here; an error only if it is wanted. False:
  // the name is there already. `data` must outlive the bound weights.
  [[nodiscard]] bool Add(std::string name, std::optional<TensorType> type,
                         std::vector<int64_t> shape, const std::byte* data);

  bool Has(absl::string_view name) const { return tensors_.contains(name); }
  const std::string& file() const { return file_; }

  // Shapes are row-major: [rows][cols].
  absl::StatusOr<WeightTensor> TakeMatrix(absl::string_view name, int32_t rows, int32_t cols);
  absl::StatusOr<WeightTensor> TakeVector(absl::string_view name, int32_t cols);  // unquantised
  // Rows of a matrix, columns from its length; before a vocabulary size is known.
  absl::StatusOr<int32_t> RowsOf(absl::string_view name) const;
  void Ignore(absl::string_view name);
  absl::Status RefuseLeftOvers() const;

 private:
  struct Entry {
    std::optional<TensorType> type;
    std::vector<int64_t> shape;
    const std::byte* data = nullptr;
    bool taken = false;
  };

  absl::StatusOr<WeightTensor> Take(absl::string_view name, std::vector<int64_t> shape);

  std::string file_;
  absl::flat_hash_map<std::string, Entry> tensors_;
};

// Takes everything that `config` wants from `table`, and refuses what is left over.
absl::StatusOr<ModelWeights> BindWeights(const ModelConfig& config, const TensorNames& names,
                                         TensorTable& table);

}  // namespace holdfast
