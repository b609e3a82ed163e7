#include "tests/unit/text/vocabularies.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "engine/weights.h"
#include "server/model_text.h"

namespace holdfast {
namespace {

std::unique_ptr<DefaultModel> Load(const char* path) {
  absl::StatusOr<LoadedModel> model = LoadModel(path);
  if (!model.ok()) {
    ADD_FAILURE() << model.status();
    return nullptr;
  }
  const VocabularySource& source = model->vocabulary;
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = MakeTokenizer(source);
  if (!tokenizer.ok()) {
    ADD_FAILURE() << tokenizer.status();
    return nullptr;
  }
  auto loaded = std::make_unique<DefaultModel>();
  loaded->tokenizer = *std::move(tokenizer);
  loaded->chat_template = source.chat_template;
  loaded->bos = std::string(loaded->tokenizer->TokenBytes(source.bos.value_or(-1)));
  loaded->eos = std::string(loaded->tokenizer->TokenBytes(source.eos.value_or(-1)));
  return loaded;
}

std::string Utf8(uint32_t code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

bool IsPrintable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

}  // namespace

const DefaultModel* LoadDefaultModel() {
  static const std::unique_ptr<DefaultModel>* model = [] {
    const char* path = std::getenv("HOLDFAST_MODEL");
    return new std::unique_ptr<DefaultModel>(path == nullptr ? nullptr : Load(path));
  }();
  return model->get();
}

std::string ByteText(uint8_t byte) {
  if (IsPrintable(byte)) return Utf8(byte);
  uint32_t code = 0x100;
  for (int other = 0; other < byte; ++other) code += IsPrintable(other) ? 0 : 1;
  return Utf8(code);
}

std::unique_ptr<Tokenizer> ByteLevelTokenizer(const std::vector<std::string>& controls,
                                              std::string_view pre) {
  std::vector<std::string> tokens = controls;
  std::vector<int32_t> types(controls.size(), 3);
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(ByteText(static_cast<uint8_t>(byte)));
  const std::vector<std::string> merges = {"h e", "l l", "he ll", "hell o", "\xC4\xA0 w"};
  for (const std::string& merge : merges) {
    const size_t space = merge.find(' ');
    tokens.push_back(merge.substr(0, space) + merge.substr(space + 1));
  }
  types.resize(tokens.size(), 1);
  auto tokenizer = Tokenizer::FromGguf(
      {.model = "gpt2", .pre = pre, .tokens = &tokens, .token_types = &types, .merges = &merges});
  if (!tokenizer.ok()) {
    ADD_FAILURE() << tokenizer.status();
    return nullptr;
  }
  return *std::move(tokenizer);
}

int32_t ByteId(const std::vector<std::string>& controls, uint8_t byte) {
  return static_cast<int32_t>(controls.size()) + byte;
}

std::string ReadGolden(std::string_view name) {
  const std::string path = std::string(HOLDFAST_SOURCE_DIR "/tests/golden/") + std::string(name);
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string Decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += tokenizer.TokenBytes(id);
  return text;
}

}  // namespace holdfast
