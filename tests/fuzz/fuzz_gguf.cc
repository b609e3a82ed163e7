// Any bytes as a GGUF file: refused with a sentence, or read to views that lie inside the bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "engine/gguf_file.h"
#include "engine/model_reader.h"

namespace {

// Keeps the compiler from dropping the reads that the address sanitizer is to see.
volatile uint8_t sink;

void Touch(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  sink = static_cast<uint8_t>(bytes.front());
  sink = static_cast<uint8_t>(bytes.back());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast;
  const absl::StatusOr<GgufFile> file =
      GgufFile::Parse(std::as_bytes(std::span(data, size)), "fuzz.gguf");
  if (!file.ok()) {
    if (file.status().message().empty()) std::abort();
    return 0;
  }
  for (const GgufTensor& tensor : file->tensors()) Touch(tensor.data);
  const absl::StatusOr<LoadedModel> model = ReadGgufModel(*file);
  if (!model.ok()) return 0;
  const auto touch = [](const WeightTensor& tensor) {
    if (tensor) Touch({tensor.data, tensor.bytes()});
  };
  touch(model->weights.embedding);
  touch(model->weights.head);
  for (const LayerWeights& layer : model->weights.layers) {
    for (const WeightTensor* tensor : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate,
                                       &layer.up, &layer.down, &layer.q_bias, &layer.q_norm}) {
      touch(*tensor);
    }
  }
  return 0;
}
