// What the answers of one call have in common, made once a call: for HTTP and for batches.
//
// Thread: any, with a generator of its own.
#pragma once

#include <string>
#include <string_view>

#include "absl/random/bit_gen_ref.h"
#include "server/embedding_codec.h"
#include "server/generation.h"
#include "server/openai_codec.h"
#include "server/openai_response.h"

namespace holdfast {

// `prefix` and 32 hexadecimal digits: an id that nobody has had.
std::string DrawId(std::string_view prefix, absl::BitGenRef random);

// An id, the time, and how tokens are spelled. `service` must outlive it. Draws
// a seed for each request of `call` where the caller gave none.
AnswerHead BeginAnswer(GenerationCall& call, const GenerationService& service,
                       const std::string& system_fingerprint, absl::BitGenRef random);
EmbeddingHead BeginEmbeddings(const EmbeddingCall& call, absl::BitGenRef random);

}  // namespace holdfast
