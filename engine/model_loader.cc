// LoadModel of weights.h: finds out which format a path holds and gives it to that reader.

#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "config/base/status_macros.h"
#include "engine/gguf_file.h"
#include "engine/load_error.h"
#include "engine/mapped_file.h"
#include "engine/model_digest.h"
#include "engine/model_reader.h"
#include "engine/weights.h"

namespace holdfast {
namespace {

std::array<uint8_t, 32> DigestOf(const GgufFile& gguf, size_t file_bytes) {
  ModelDigest digest;
  digest.AddNumber("gguf bytes", file_bytes);
  digest.AddBytes("gguf head", gguf.head());
  for (const GgufTensor& tensor : gguf.tensors()) digest.AddSamples("tensor", tensor.data);
  return digest.Finish();
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    const int error = errno;
    return absl::ErrnoToStatus(error, absl::StrCat(path, ": cannot find the model"));
  }
  if (S_ISDIR(info.st_mode)) return ReadHuggingFaceModel(path);
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> mapped, MappedFile::Open(path));
  if (absl::EndsWith(path, ".safetensors") || absl::EndsWith(path, ".json")) {
    return Unsupported(path, "wanted a GGUF file or a folder, found a part of a Hugging Face ",
                       "model; give the folder that holds config.json");
  }
  ASSIGN_OR_RETURN(const GgufFile gguf, GgufFile::Parse(mapped->bytes(), path));
  ASSIGN_OR_RETURN(LoadedModel model, ReadGgufModel(gguf));
  model.digest = DigestOf(gguf, mapped->bytes().size());
  model.files = {mapped.get()};
  model.mapping = std::shared_ptr<const MappedFile>(std::move(mapped));
  return model;
}

}  // namespace holdfast
