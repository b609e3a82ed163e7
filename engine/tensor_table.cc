#include "engine/tensor_table.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "config/base/status_macros.h"
#include "engine/load_error.h"

namespace holdfast {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

}  // namespace

bool TensorTable::Add(std::string name, std::optional<TensorType> type, std::vector<int64_t> shape,
                      const std::byte* data) {
  return tensors_.emplace(std::move(name), Entry{type, std::move(shape), data, false}).second;
}

absl::StatusOr<WeightTensor> TensorTable::Take(absl::string_view name, std::vector<int64_t> shape) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return Malformed(
        file_, "tensor ", Quoted(name), ": wanted with the shape ", ShapeText(shape),
        ", found none; the file is incomplete or of another architecture than it says");
  }
  Entry& entry = found->second;
  if (entry.shape != shape) {
    return Malformed(file_, "tensor ", Quoted(name), ": wanted the shape ", ShapeText(shape),
                     ", found ", ShapeText(entry.shape),
                     "; the tensors do not fit the configuration");
  }
  if (!entry.type) {
    return Unsupported(file_, "tensor ", Quoted(name),
                       ": wanted elements of F32, F16 or BF16, found another type; convert it");
  }
  entry.taken = true;
  WeightTensor tensor;
  tensor.type = *entry.type;
  tensor.rows = shape.size() == 1 ? 1 : static_cast<int32_t>(shape[0]);
  tensor.cols = static_cast<int32_t>(shape.back());
  tensor.data = entry.data;
  if (tensor.cols % TraitsOf(tensor.type).block_elements != 0) {
    return Malformed(file_, "tensor ", Quoted(name), ": rows of ", tensor.cols, " elements; type ",
                     TraitsOf(tensor.type).name, " wants a multiple of ",
                     TraitsOf(tensor.type).block_elements);
  }
  return tensor;
}

absl::StatusOr<WeightTensor> TensorTable::TakeMatrix(absl::string_view name, int32_t rows,
                                                     int32_t cols) {
  return Take(name, {rows, cols});
}

absl::StatusOr<WeightTensor> TensorTable::TakeVector(absl::string_view name, int32_t cols) {
  ASSIGN_OR_RETURN(WeightTensor tensor, Take(name, {cols}));
  if (IsQuantized(tensor.type)) {
    return Unsupported(file_, "tensor ", Quoted(name), ": wanted F32, F16 or BF16, found ",
                       TraitsOf(tensor.type).name, "; norms and biases are not quantised");
  }
  return tensor;
}

absl::StatusOr<int32_t> TensorTable::RowsOf(absl::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return Malformed(file_, "tensor ", Quoted(name), ": wanted, found none");
  }
  const std::vector<int64_t>& shape = found->second.shape;
  if (shape.size() != 2 || shape[0] < 1 || shape[0] > std::numeric_limits<int32_t>::max()) {
    return Malformed(file_, "tensor ", Quoted(name), ": wanted a matrix, found the shape ",
                     ShapeText(shape));
  }
  return static_cast<int32_t>(shape[0]);
}

void TensorTable::Ignore(absl::string_view name) {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) found->second.taken = true;
}

absl::Status TensorTable::RefuseLeftOvers() const {
  absl::string_view first;
  size_t count = 0;
  for (const auto& [name, entry] : tensors_) {
    if (entry.taken) continue;
    if (count == 0 || name < first) first = name;
    ++count;
  }
  if (count == 0) return absl::OkStatus();
  return Unsupported(file_, "tensor ", Quoted(first), count == 1 ? "" : " and ",
                     count == 1 ? "" : absl::StrCat(count - 1, " more"),
                     ": not part of the architecture that the file names; a model with further "
                     "parts is not computed without them");
}

absl::StatusOr<ModelWeights> BindWeights(const ModelConfig& config, const TensorNames& names,
                                         TensorTable& table) {
  const auto weight = [](absl::string_view part) { return absl::StrCat(part, ".weight"); };
  ModelWeights weights;
  ASSIGN_OR_RETURN(weights.embedding,
                   table.TakeMatrix(weight(names.embedding), config.vocab_size, config.hidden));
  ASSIGN_OR_RETURN(weights.final_norm, table.TakeVector(weight(names.final_norm), config.hidden));
  if (config.tied_head) {
    weights.head = weights.embedding;
    table.Ignore(weight(names.head));  // some files keep a copy
  } else {
    ASSIGN_OR_RETURN(weights.head,
                     table.TakeMatrix(weight(names.head), config.vocab_size, config.hidden));
  }
  const int32_t q_rows = config.num_heads * config.head_dim;
  const int32_t kv_rows = config.num_kv_heads * config.head_dim;
  for (int32_t layer_index = 0; layer_index < config.num_layers; ++layer_index) {
    const std::string prefix = absl::StrCat(names.layer_prefix, layer_index, ".");
    const auto matrix = [&](absl::string_view part, int32_t rows, int32_t cols, WeightTensor& to) {
      absl::StatusOr<WeightTensor> taken =
          table.TakeMatrix(absl::StrCat(prefix, part, ".weight"), rows, cols);
      if (taken.ok()) to = *taken;
      return taken.status();
    };
    const auto vector = [&](bool wanted, absl::string_view part, absl::string_view suffix,
                            int32_t cols, WeightTensor& to) {
      if (!wanted) return absl::OkStatus();
      absl::StatusOr<WeightTensor> taken =
          table.TakeVector(absl::StrCat(prefix, part, suffix), cols);
      if (taken.ok()) to = *taken;
      return taken.status();
    };
    LayerWeights& layer = weights.layers.emplace_back();
    const int32_t hidden = config.hidden, inner = config.intermediate;
    RETURN_IF_ERROR(vector(true, names.attention_norm, ".weight", hidden, layer.attention_norm));
    RETURN_IF_ERROR(matrix(names.q, q_rows, hidden, layer.q));
    RETURN_IF_ERROR(matrix(names.k, kv_rows, hidden, layer.k));
    RETURN_IF_ERROR(matrix(names.v, kv_rows, hidden, layer.v));
    RETURN_IF_ERROR(matrix(names.o, hidden, q_rows, layer.o));
    RETURN_IF_ERROR(vector(config.qkv_bias, names.q, ".bias", q_rows, layer.q_bias));
    RETURN_IF_ERROR(vector(config.qkv_bias, names.k, ".bias", kv_rows, layer.k_bias));
    RETURN_IF_ERROR(vector(config.qkv_bias, names.v, ".bias", kv_rows, layer.v_bias));
    RETURN_IF_ERROR(vector(config.output_bias, names.o, ".bias", hidden, layer.o_bias));
    RETURN_IF_ERROR(vector(config.qk_norm, names.q_norm, ".weight", config.head_dim, layer.q_norm));
    RETURN_IF_ERROR(vector(config.qk_norm, names.k_norm, ".weight", config.head_dim, layer.k_norm));
    RETURN_IF_ERROR(vector(true, names.mlp_norm, ".weight", hidden, layer.mlp_norm));
    RETURN_IF_ERROR(matrix(names.gate, inner, hidden, layer.gate));
    RETURN_IF_ERROR(matrix(names.up, inner, hidden, layer.up));
    RETURN_IF_ERROR(matrix(names.down, hidden, inner, layer.down));
    RETURN_IF_ERROR(vector(config.mlp_bias, names.gate, ".bias", inner, layer.gate_bias));
    RETURN_IF_ERROR(vector(config.mlp_bias, names.up, ".bias", inner, layer.up_bias));
    RETURN_IF_ERROR(vector(config.mlp_bias, names.down, ".bias", hidden, layer.down_bias));
  }
  RETURN_IF_ERROR(table.RefuseLeftOvers());
  return weights;
}

}  // namespace holdfast
