#include "text/text.h"

#include <ctime>
#include <utility>

#include "text/rust_library.h"
#include "text/text_c.h"

namespace holdfast {
namespace {

using text_internal::Buffer;
using text_internal::ToStatus;
using text_internal::View;

std::vector<TextView> Views(const std::vector<std::string>* texts) {
  std::vector<TextView> views;
  if (texts == nullptr) return views;
  views.reserve(texts->size());
  for (const std::string& text : *texts) views.push_back(View(text));
  return views;
}

void AppendAndFree(TextIds found, std::vector<int32_t>& ids) {
  if (found.size > 0) ids.insert(ids.end(), found.data, found.data + found.size);
  text_ids_free(found);
}

class RustTokenizer final : public Tokenizer {
 public:
  explicit RustTokenizer(TextTokenizer* raw) : raw_(raw), table_(text_tokenizer_table(raw)) {}
  ~RustTokenizer() override { text_tokenizer_free(raw_); }
  RustTokenizer(const RustTokenizer&) = delete;
  RustTokenizer& operator=(const RustTokenizer&) = delete;

  absl::Status Encode(std::string_view text, SpecialTokens special, bool add_bos_eos,
                      std::vector<int32_t>& ids) const override {
    TextIds found = {};
    Buffer error;
    const TextCode code =
        text_tokenizer_encode(raw_, View(text), special == SpecialTokens::kParse ? 1 : 0,
                              add_bos_eos ? 1 : 0, &found, error.out());
    AppendAndFree(found, ids);
    return ToStatus(code, error);
  }

  std::string_view TokenBytes(int32_t id) const override {
    if (!Has(id)) return {};
    const uint64_t begin = table_.offsets[id], end = table_.offsets[id + 1];
    return {reinterpret_cast<const char*>(table_.bytes) + begin, end - begin};
  }

  bool IsSpecial(int32_t id) const override { return Has(id) && table_.special[id] != 0; }
  int32_t vocab_size() const override { return static_cast<int32_t>(table_.num_tokens); }
  bool adds_space_prefix() const override { return table_.adds_space_prefix != 0; }
  const TextTokenizer* raw() const { return raw_; }

 private:
  bool Has(int32_t id) const { return id >= 0 && id < vocab_size(); }

  TextTokenizer* const raw_;
  const TextTokenTable table_;  // lies in *raw_
};

class RustChatTemplate final : public ChatTemplate {
 public:
  explicit RustChatTemplate(TextTemplate* raw) : raw_(raw) {}
  ~RustChatTemplate() override { text_template_free(raw_); }
  RustChatTemplate(const RustChatTemplate&) = delete;
  RustChatTemplate& operator=(const RustChatTemplate&) = delete;

  absl::Status Encode(const ChatInput& input, std::vector<int32_t>& ids) const override {
    TextIds found = {};
    Buffer error;
    const TextChatInput raw_input = Raw(input);
    const TextCode code = text_template_encode(raw_, &raw_input, &found, error.out());
    AppendAndFree(found, ids);
    return ToStatus(code, error);
  }

  absl::StatusOr<std::string> Render(const ChatInput& input) const override {
    Buffer text, error;
    const TextChatInput raw_input = Raw(input);
    const TextCode code = text_template_render(raw_, &raw_input, text.out(), error.out());
    if (code != kTextOk) return ToStatus(code, error);
    return text.text();
  }

 private:
  static TextChatInput Raw(const ChatInput& input) {
    return {.messages = View(input.messages_json),
            .tools = View(input.tools_json),
            .kwargs = View(input.template_kwargs_json),
            .add_generation_prompt = static_cast<uint8_t>(input.add_generation_prompt ? 1 : 0)};
  }

  TextTemplate* const raw_;
};

// Two templates of one model: conversations with tools have their own.
class ToolAwareChatTemplate final : public ChatTemplate {
 public:
  ToolAwareChatTemplate(std::unique_ptr<ChatTemplate> plain, std::unique_ptr<ChatTemplate> tool_use)
      : plain_(std::move(plain)), tool_use_(std::move(tool_use)) {}

  absl::Status Encode(const ChatInput& input, std::vector<int32_t>& ids) const override {
    return For(input).Encode(input, ids);
  }
  absl::StatusOr<std::string> Render(const ChatInput& input) const override {
    return For(input).Render(input);
  }

 private:
  const ChatTemplate& For(const ChatInput& input) const {
    return input.tools_json.empty() ? *plain_ : *tool_use_;
  }

  const std::unique_ptr<ChatTemplate> plain_, tool_use_;
};

// For strftime_now. transformers formats the local time with Python's strftime, which is libc's.
size_t FormatNow(const char* format, uint8_t* out, size_t capacity) {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  if (localtime_r(&now, &local) == nullptr) return 0;
  return std::strftime(reinterpret_cast<char*>(out), capacity, format, &local);
}

}  // namespace

const TextTokenizer* text_internal::RawTokenizer(const Tokenizer& tokenizer) {
  const auto* const ours = dynamic_cast<const RustTokenizer*>(&tokenizer);
  return ours == nullptr ? nullptr : ours->raw();
}

Tokenizer::~Tokenizer() = default;
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromGguf(const GgufVocabulary& vocabulary) {
  const std::vector<TextView> tokens = Views(vocabulary.tokens);
  const std::vector<TextView> merges = Views(vocabulary.merges);
  TextGgufVocabulary raw = {};
  raw.model = View(vocabulary.model);
  raw.pre = View(vocabulary.pre);
  raw.tokens = tokens.data();
  raw.num_tokens = tokens.size();
  if (vocabulary.token_types != nullptr) {
    raw.token_types = vocabulary.token_types->data();
    raw.num_token_types = vocabulary.token_types->size();
  }
  if (vocabulary.scores != nullptr) {
    raw.scores = vocabulary.scores->data();
    raw.num_scores = vocabulary.scores->size();
  }
  raw.merges = merges.data();
  raw.num_merges = merges.size();
  raw.bos = vocabulary.bos;
  raw.eos = vocabulary.eos;
  raw.unknown = vocabulary.unknown;
  raw.add_bos = vocabulary.add_bos ? 1 : 0;
  raw.add_eos = vocabulary.add_eos ? 1 : 0;
  raw.add_space_prefix = vocabulary.add_space_prefix ? 1 : 0;

  TextTokenizer* tokenizer = nullptr;
  Buffer error;
  const TextCode code = text_tokenizer_from_gguf(&raw, &tokenizer, error.out());
  if (code != kTextOk) return ToStatus(code, error);
  return std::make_unique<RustTokenizer>(tokenizer);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJsonFile(const std::string& path) {
  TextTokenizer* tokenizer = nullptr;
  Buffer error;
  const TextCode code = text_tokenizer_from_json_file(View(path), &tokenizer, error.out());
  if (code != kTextOk) return ToStatus(code, error);
  return std::make_unique<RustTokenizer>(tokenizer);
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Create(std::string_view source,
                                                                   std::string_view bos_token,
                                                                   std::string_view eos_token,
                                                                   const Tokenizer& tokenizer,
                                                                   const TemplateLimits& limits) {
  const TextTokenizer* const raw_tokenizer = text_internal::RawTokenizer(tokenizer);
  if (raw_tokenizer == nullptr) {
    return absl::InvalidArgumentError(
        "a chat template needs a tokenizer made by FromGguf or "
        "FromJsonFile");
  }
  const TextTemplateOptions options = {.source = View(source),
                                       .bos_token = View(bos_token),
                                       .eos_token = View(eos_token),
                                       .fuel = limits.fuel,
                                       .output_bytes_max = limits.output_bytes_max,
                                       .format_now = FormatNow};
  TextTemplate* chat_template = nullptr;
  Buffer error;
  const TextCode code = text_template_create(&options, raw_tokenizer, &chat_template, error.out());
  if (code != kTextOk) return ToStatus(code, error);
  return std::make_unique<RustChatTemplate>(chat_template);
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Create(const ChatTemplateSource& source,
                                                                   const Tokenizer& tokenizer,
                                                                   const TemplateLimits& limits) {
  auto plain = Create(source.source, source.bos_token, source.eos_token, tokenizer, limits);
  if (!plain.ok() || source.tool_use_source.empty()) return plain;
  auto tool_use =
      Create(source.tool_use_source, source.bos_token, source.eos_token, tokenizer, limits);
  if (!tool_use.ok()) return tool_use;
  return std::make_unique<ToolAwareChatTemplate>(*std::move(plain), *std::move(tool_use));
}

absl::StatusOr<ChatTemplateSource> LoadHuggingFaceChatTemplate(
    const std::string& tokenizer_config_path, const std::string& chat_template_path) {
  Buffer source, tool_use_source, bos_token, eos_token, error;
  const TextCode code =
      text_load_chat_template(View(tokenizer_config_path), View(chat_template_path), source.out(),
                              tool_use_source.out(), bos_token.out(), eos_token.out(), error.out());
  if (code != kTextOk) return ToStatus(code, error);
  return ChatTemplateSource{.source = source.text(),
                            .tool_use_source = tool_use_source.text(),
                            .bos_token = bos_token.text(),
                            .eos_token = eos_token.text()};
}

}  // namespace holdfast
