// The bodies of what is done with embeddings: OpenAI's /v1/embeddings, and by the cosine of two of
// them /v1/score (vLLM's) and /v1/rerank (Jina's and Cohere's). Each text of a body is a request of
// its own; all of them are taken or none. As elsewhere each parameter is honoured or refused.
//
// Beyond what those wires have: cache_salt, priority and offline, as in completions. Harmless:
// `user`.
//
// Thread: any; pure. Bounds: kEmbeddingInputsMax texts and kEmbeddingNumbersMax numbers of one
// body.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/answer_writer.h"
#include "server/generation.h"
#include "server/json_body.h"

namespace holdfast {

struct EmbeddingsShape {
  bool base64 = false;  // of f32, little-endian; else a list of numbers
};
struct ScoreShape {  // of pairs: the only query or the i-th with document i
  size_t num_queries = 1;
};
struct RerankShape {  // the query, then the documents
  size_t results_max = 0;
  std::vector<std::string> documents;  // to be shown; empty: not wanted
};
using EmbeddingShape = std::variant<EmbeddingsShape, ScoreShape, RerankShape>;

struct EmbeddingCall {
  std::string model;  // as asked for, else the served model's name
  EmbeddingShape shape;
  std::vector<GenerationRequest> requests;  // one a text
};

// kInvalidArgument or kNotFound (model), both with the payloads of server/generation.h.
absl::StatusOr<EmbeddingCall> DecodeEmbeddings(std::string_view body,
                                               const GenerationService::ModelInfo& info);
absl::StatusOr<EmbeddingCall> DecodeScore(std::string_view body,
                                          const GenerationService::ModelInfo& info);
absl::StatusOr<EmbeddingCall> DecodeRerank(std::string_view body,
                                           const GenerationService::ModelInfo& info);

// What every wire's embeddings must keep to, once `model`, texts and `dimensions` are read.
absl::Status CheckEmbedding(const GenerationRequest& request,
                            const GenerationService::ModelInfo& info);
absl::Status CheckEmbeddings(const std::vector<GenerationRequest>& requests,
                             const GenerationService::ModelInfo& info);

// "embd-" and the like.
const char* IdPrefix(const EmbeddingShape& shape);

struct EmbeddingHead {
  std::string id, model;
  int64_t created_unix = 0;
};

// One body of all embeddings.
class EmbeddingBody final : public AnswerBodyWriter {
 public:
  EmbeddingBody(EmbeddingHead head, EmbeddingShape shape, size_t num_texts);
  void Add(int32_t prompt, GenerationEvent&& event) override;
  std::string Finish() override;

 private:
  std::string Finish(const EmbeddingsShape& shape) const;
  std::string Finish(const ScoreShape& shape) const;
  std::string Finish(const RerankShape& shape) const;
  Json Usage() const;

  const EmbeddingHead head_;
  const EmbeddingShape shape_;
  std::vector<std::vector<float>> embeddings_;  // by text
  int64_t prompt_tokens_ = 0, cached_tokens_ = 0;
};

}  // namespace holdfast
