// Text to tokens and back, and chat templates: the C++ face of the Rust library behind text_c.h.
// Knows nothing of requests or tenants.
//
// Thread: const members by any number of threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace holdfast {

// GGUF's tokenizer.ggml.* arrays; views are not kept.
struct GgufVocabulary {
  std::string_view model;  // "gpt2" (byte-level BPE) or "llama" (SentencePiece with scores)
  std::string_view pre;    // smollm, llama-bpe, qwen2, gpt-2, default, ...
  const std::vector<std::string>* tokens = nullptr;
  const std::vector<int32_t>* token_types = nullptr;
  const std::vector<float>* scores = nullptr;  // may be empty
  const std::vector<std::string>* merges = nullptr;
  bool add_bos = false, add_eos = false, add_space_prefix = true;
  int32_t bos = -1, eos = -1, unknown = -1, padding = -1;  // -1: none, as in the file format
};

enum class SpecialTokens : uint8_t {
  kPlain,  // text is text: "<|im_end|>" becomes ordinary tokens. For anything a caller wrote.
  kParse   // control tokens in the text are recognised. For templates' own text.
};

class Tokenizer {
 public:
  virtual ~Tokenizer();
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromGguf(const GgufVocabulary& vocabulary);
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJsonFile(const std::string& path);

  // Appends ids. Invalid UTF-8 is replaced by U+FFFD first. `add_bos_eos`: as the model's files
  // ask.
  virtual absl::Status Encode(std::string_view text, SpecialTokens special, bool add_bos_eos,
                              std::vector<int32_t>& ids) const = 0;
  // The bytes that a token stands for (may be part of a UTF-8 sequence); empty if out of range.
  virtual std::string_view TokenBytes(int32_t id) const = 0;
  // A control token: not shown in text unless asked for.
  virtual bool IsSpecial(int32_t id) const = 0;
  virtual int32_t vocab_size() const = 0;
  // Encoding puts a space before a text (SentencePiece), so showing a whole text drops one. A
  // completion, which goes on after a prompt, keeps it.
  virtual bool adds_space_prefix() const { return false; }
};

// Bounds of one rendering. The defaults are those of config/limits.h.
struct TemplateLimits {
  uint64_t fuel = 20'000'000;  // minijinja steps: about 100 ms
  size_t output_bytes_max = 32 << 20;
};

// A conversation as JSON texts, in OpenAI's form.
struct ChatInput {
  std::string messages_json;         // array
  std::string tools_json;            // array or empty
  std::string template_kwargs_json;  // object or empty: chat_template_kwargs
  bool add_generation_prompt = true;
};

// The chat template of a model, as its files have it.
struct ChatTemplateSource {
  std::string source;                // Jinja; empty: the model has none
  std::string tool_use_source;       // for conversations with tools; empty: `source`
  std::string bos_token, eos_token;  // empty: not told
};

// Of a Hugging Face folder: tokenizer_config.json and chat_template.jinja. Either path may be
// empty; the second wins. kNotFound and kInvalidArgument name the file.
absl::StatusOr<ChatTemplateSource> LoadHuggingFaceChatTemplate(
    const std::string& tokenizer_config_path, const std::string& chat_template_path);

class ChatTemplate {
 public:
  virtual ~ChatTemplate();
  // Compiles once. `bos_token`, `eos_token` are the texts that templates refer to. Special tokens
  // of `tokenizer` occurring in the messages' strings never become control tokens (how: guard.rs).
  // `tokenizer` must be one of this header's factories and outlive the template.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Create(std::string_view source,
                                                              std::string_view bos_token,
                                                              std::string_view eos_token,
                                                              const Tokenizer& tokenizer,
                                                              const TemplateLimits& limits = {});
  // As above, with the source for tools, where there is one, for conversations that have tools.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Create(const ChatTemplateSource& source,
                                                              const Tokenizer& tokenizer,
                                                              const TemplateLimits& limits = {});
  // Renders and tokenises. kInvalidArgument: the template refused (raise_exception) or a limit on
  // steps or output size was passed; the message is for the caller.
  virtual absl::Status Encode(const ChatInput& input, std::vector<int32_t>& ids) const = 0;
  // The rendered text, for tests and /tokenize's sake.
  virtual absl::StatusOr<std::string> Render(const ChatInput& input) const = 0;
};

}  // namespace holdfast
