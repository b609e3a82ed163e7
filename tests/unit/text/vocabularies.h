// Vocabularies for the tests of the text room: the default model's, and small ones.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/text.h"

namespace holdfast {

// The default model's GGUF metadata; null when HOLDFAST_MODEL is unset (the test then skips).
struct DefaultModel {
  std::unique_ptr<Tokenizer> tokenizer;
  std::string chat_template, bos, eos;
};
const DefaultModel* LoadDefaultModel();

// All bytes, a few merges and the given control tokens, pre-tokenised as `pre`. Ids: control tokens
// first, then the bytes in order (ByteId), then merges.
std::unique_ptr<Tokenizer> ByteLevelTokenizer(const std::vector<std::string>& controls,
                                              std::string_view pre = "gpt-2");
int32_t ByteId(const std::vector<std::string>& controls, uint8_t byte);
// How a byte-level vocabulary writes a byte.
std::string ByteText(uint8_t byte);

std::string ReadGolden(std::string_view name);  // a file of tests/golden
std::string Decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids);

}  // namespace holdfast
