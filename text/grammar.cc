#include "text/grammar.h"

#include "text/rust_library.h"
#include "text/text_c.h"

namespace holdfast {
namespace {

using text_internal::Buffer;
using text_internal::ToStatus;
using text_internal::View;

class RustMatcher final : public GrammarMatcher {
 public:
  explicit RustMatcher(TextMatcher* raw) : raw_(raw) {}
  ~RustMatcher() override { text_matcher_free(raw_); }
  RustMatcher(const RustMatcher&) = delete;
  RustMatcher& operator=(const RustMatcher&) = delete;

  absl::Status Consume(int32_t token) override {
    Buffer error;
    const TextCode code = text_matcher_consume(raw_, token, error.out());
    return ToStatus(code, error);
  }

  absl::Status Next(std::span<uint32_t> mask, std::vector<int32_t>& forced) override {
    Buffer error;
    const int32_t* tokens = nullptr;
    size_t num_tokens = 0;
    const TextCode code =
        text_matcher_next(raw_, mask.data(), mask.size(), &tokens, &num_tokens, error.out());
    forced.assign(tokens, tokens + num_tokens);
    return ToStatus(code, error);
  }

 private:
  TextMatcher* const raw_;
};

class RustGrammar final : public Grammar {
 public:
  explicit RustGrammar(TextGrammar* raw) : raw_(raw) {}
  ~RustGrammar() override { text_grammar_free(raw_); }
  RustGrammar(const RustGrammar&) = delete;
  RustGrammar& operator=(const RustGrammar&) = delete;

  absl::StatusOr<std::unique_ptr<GrammarMatcher>> NewMatcher() const override {
    TextMatcher* matcher = nullptr;
    Buffer error;
    const TextCode code = text_matcher_create(raw_, &matcher, error.out());
    if (code != kTextOk) return ToStatus(code, error);
    return std::make_unique<RustMatcher>(matcher);
  }

 private:
  TextGrammar* const raw_;
};

class RustGrammarCompiler final : public GrammarCompiler {
 public:
  explicit RustGrammarCompiler(TextGrammarCompiler* raw) : raw_(raw) {}
  ~RustGrammarCompiler() override { text_grammar_compiler_free(raw_); }
  RustGrammarCompiler(const RustGrammarCompiler&) = delete;
  RustGrammarCompiler& operator=(const RustGrammarCompiler&) = delete;

  absl::StatusOr<std::unique_ptr<Grammar>> Compile(const GrammarSource& source,
                                                   uint64_t owner) const override {
    TextGrammar* grammar = nullptr;
    Buffer error;
    const TextCode code = text_grammar_compile(raw_, static_cast<int32_t>(source.kind),
                                               View(source.text), owner, &grammar, error.out());
    if (code != kTextOk) return ToStatus(code, error);
    return std::make_unique<RustGrammar>(grammar);
  }

 private:
  TextGrammarCompiler* const raw_;
};

}  // namespace

GrammarMatcher::~GrammarMatcher() = default;
Grammar::~Grammar() = default;
GrammarCompiler::~GrammarCompiler() = default;

absl::StatusOr<std::unique_ptr<GrammarCompiler>> GrammarCompiler::Create(
    const Tokenizer& tokenizer, int32_t vocab_size, std::span<const int32_t> ends,
    const CompileLimits& limits) {
  const TextTokenizer* const raw = text_internal::RawTokenizer(tokenizer);
  if (raw == nullptr) {
    return absl::InvalidArgumentError(
        "a grammar needs a tokenizer made by FromGguf or FromJsonFile");
  }
  const TextCompileLimits raw_limits = {.wait_ms = limits.wait_ms,
                                        .left_behind_per_owner = limits.left_behind_per_owner,
                                        .left_behind = limits.left_behind};
  TextGrammarCompiler* compiler = nullptr;
  Buffer error;
  const TextCode code =
      text_grammar_compiler_create(raw, static_cast<size_t>(vocab_size), ends.data(), ends.size(),
                                   &raw_limits, &compiler, error.out());
  if (code != kTextOk) return ToStatus(code, error);
  return std::make_unique<RustGrammarCompiler>(compiler);
}

}  // namespace holdfast
