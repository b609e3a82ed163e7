// Any bytes as a safetensors file, and any JSON in its header as a config.json: refused with a
// sentence, or read to views that lie inside the bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "engine/hf_config.h"
#include "engine/json_document.h"
#include "engine/model_reader.h"
#include "engine/safetensors_file.h"

namespace {
volatile uint8_t sink;  // keeps the reads that the address sanitizer is to see
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast;
  const absl::StatusOr<SafetensorsFile> file =
      SafetensorsFile::Parse(std::as_bytes(std::span(data, size)), "fuzz.safetensors");
  if (file.ok()) {
    for (const SafetensorsTensor& tensor : file->tensors) {
      if (tensor.data.empty()) continue;
      sink = static_cast<uint8_t>(tensor.data.front());
      sink = static_cast<uint8_t>(tensor.data.back());
    }
  } else if (file.status().message().empty()) {
    std::abort();
  }
  if (size < 8) return 0;
  const absl::StatusOr<JsonDocument> json =
      JsonDocument::Parse({reinterpret_cast<const char*>(data) + 8, size - 8}, "fuzz.json");
  if (!json.ok()) return 0;
  const absl::StatusOr<ModelConfig> config = ReadHuggingFaceConfig(*json, &*json);
  if (config.ok()) (void)CheckModelConfig("fuzz.json", *config);
  return 0;
}
