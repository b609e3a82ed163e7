#include "server/answer_head.h"

#include "absl/random/random.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace holdfast {

std::string DrawId(std::string_view prefix, absl::BitGenRef random) {
  return absl::StrFormat("%s%016x%016x", prefix, absl::Uniform<uint64_t>(random),
                         absl::Uniform<uint64_t>(random));
}

AnswerHead BeginAnswer(GenerationCall& call, const GenerationService& service,
                       const std::string& system_fingerprint, absl::BitGenRef random) {
  for (GenerationRequest& request : call.requests) {
    if (!call.seed_given) request.sampling.seed = absl::Uniform<uint64_t>(random);
  }
  return {.id = DrawId(call.shape.chat ? "chatcmpl-" : "cmpl-", random),
          .created_unix = absl::ToUnixSeconds(absl::Now()),
          .model = call.model,
          .system_fingerprint = system_fingerprint,
          .token_text = [&service](TokenId token) { return service.TokenText(token); }};
}

EmbeddingHead BeginEmbeddings(const EmbeddingCall& call, absl::BitGenRef random) {
  return {.id = DrawId(IdPrefix(call.shape), random),
          .model = call.model,
          .created_unix = absl::ToUnixSeconds(absl::Now())};
}

}  // namespace holdfast
