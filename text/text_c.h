/* The C face of the Rust library (src/lib.rs): tokenizers, chat templates and grammars. Only
 * text.cc and grammar.cc include it.
 *
 * Every call that can fail returns a TextCode and writes a message into `error`, which the caller
 * frees like every TextBuffer that it was given. No call keeps a pointer that it was passed, no
 * call unwinds: a panic becomes kTextInternal. Objects may be used by many threads at once, but
 * matchers by one. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct TextTokenizer TextTokenizer;
typedef struct TextTemplate TextTemplate;
typedef struct TextGrammarCompiler TextGrammarCompiler;
typedef struct TextGrammar TextGrammar;
typedef struct TextMatcher TextMatcher;

enum {
  kTextOk = 0,
  kTextInvalidArgument = 1,
  kTextNotFound = 2,
  kTextUnimplemented = 3,
  kTextInternal = 4,
  kTextResourceExhausted = 5,
};
typedef int32_t TextCode;

/* Borrowed. `data` may be NULL when `size` is 0. */
typedef struct {
  const char* data;
  size_t size;
} TextView;

/* Owned by the caller; zero is empty. Of bytes, or of ids. */
typedef struct {
  uint8_t* data;
  size_t size, capacity;
} TextBuffer;
typedef struct {
  int32_t* data;
  size_t size, capacity;
} TextIds;

typedef struct {
  TextView model, pre;
  const TextView* tokens;
  size_t num_tokens;
  const int32_t* token_types;
  size_t num_token_types;
  const float* scores;
  size_t num_scores;
  const TextView* merges;
  size_t num_merges;
  int32_t bos, eos, unknown; /* -1: none */
  uint8_t add_bos, add_eos, add_space_prefix;
} TextGgufVocabulary;

/* The bytes of token i are bytes[offsets[i]] to bytes[offsets[i + 1]]; special[i] is 0 or 1. Lives
 * as long as the tokenizer. */
typedef struct {
  const uint8_t* bytes;
  const uint64_t* offsets;
  const uint8_t* special;
  size_t num_tokens;
  uint8_t adds_space_prefix;
} TextTokenTable;

typedef struct {
  TextView source, bos_token, eos_token;
  uint64_t fuel;
  size_t output_bytes_max;
  /* Writes the present local time by strftime's `format`, without a NUL. 0: does not fit. */
  size_t (*format_now)(const char* format, uint8_t* out, size_t capacity);
} TextTemplateOptions;

typedef struct {
  TextView messages, tools, kwargs; /* JSON; the last two may be empty */
  uint8_t add_generation_prompt;
} TextChatInput;

/* As CompileLimits of grammar.h. */
typedef struct {
  uint64_t wait_ms;
  size_t left_behind_per_owner, left_behind;
} TextCompileLimits;

void text_buffer_free(TextBuffer buffer);
void text_ids_free(TextIds ids);

TextCode text_tokenizer_from_gguf(const TextGgufVocabulary* vocabulary, TextTokenizer** out,
                                  TextBuffer* error);
TextCode text_tokenizer_from_json_file(TextView path, TextTokenizer** out, TextBuffer* error);
void text_tokenizer_free(TextTokenizer* tokenizer);
TextTokenTable text_tokenizer_table(const TextTokenizer* tokenizer);
/* `text` is UTF-8; broken sequences are read as U+FFFD. */
TextCode text_tokenizer_encode(const TextTokenizer* tokenizer, TextView text, uint8_t parse_special,
                               uint8_t add_bos_eos, TextIds* out, TextBuffer* error);

/* Keeps the tokenizer alive by itself. */
TextCode text_template_create(const TextTemplateOptions* options, const TextTokenizer* tokenizer,
                              TextTemplate** out, TextBuffer* error);
void text_template_free(TextTemplate* chat_template);
TextCode text_template_encode(const TextTemplate* chat_template, const TextChatInput* input,
                              TextIds* out, TextBuffer* error);
TextCode text_template_render(const TextTemplate* chat_template, const TextChatInput* input,
                              TextBuffer* out, TextBuffer* error);

TextCode text_load_chat_template(TextView config_path, TextView template_path, TextBuffer* source,
                                 TextBuffer* tool_use_source, TextBuffer* bos_token,
                                 TextBuffer* eos_token, TextBuffer* error);

/* `ends`: tokens that end an answer, at least one. Keeps the tokenizer alive by itself. */
TextCode text_grammar_compiler_create(const TextTokenizer* tokenizer, size_t vocab_size,
                                      const int32_t* ends, size_t num_ends,
                                      const TextCompileLimits* limits, TextGrammarCompiler** out,
                                      TextBuffer* error);
void text_grammar_compiler_free(TextGrammarCompiler* compiler);
/* `kind` as GrammarKind of grammar.h. A grammar needs no compiler any more. */
TextCode text_grammar_compile(const TextGrammarCompiler* compiler, int32_t kind, TextView source,
                              uint64_t owner, TextGrammar** out, TextBuffer* error);
void text_grammar_free(TextGrammar* grammar);
TextCode text_matcher_create(const TextGrammar* grammar, TextMatcher** out, TextBuffer* error);
void text_matcher_free(TextMatcher* matcher);
TextCode text_matcher_consume(TextMatcher* matcher, int32_t token, TextBuffer* error);
/* What may come next: the tokens of `forced` alone, one after the other, which lie in the matcher
 * until it is called again; or there are none, and bit i of the words is set for each token i that
 * may. */
TextCode text_matcher_next(TextMatcher* matcher, uint32_t* words, size_t num_words,
                           const int32_t** forced, size_t* num_forced, TextBuffer* error);

#ifdef __cplusplus
}
#endif
