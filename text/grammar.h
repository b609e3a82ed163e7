// Grammars that an answer is held to: which tokens may come next. The C++ face of src/grammar.rs
// (the llguidance crate). Knows nothing of requests or tenants.
//
//   GrammarCompiler (one a model) ──Compile──► Grammar (shared) ──NewMatcher──► GrammarMatcher
//                                                                       (one a sequence)
//
// Where a grammar leaves one text only, its canonical tokens are forced: what is allowed is then
// one token, and the one behind it. What a matcher allows depends on the tokens that it has
// consumed and on nothing else. Bounded: what compiling and a mask may cost (ParserLimits in
// src/grammar.rs), how long a caller waits for it, and how many compile on for which nobody waits
// any more (src/compile_thread.rs).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "text/text.h"

namespace holdfast {

enum class GrammarKind : int32_t {
  kJsonSchema,      // a JSON schema, as JSON
  kRegex,           // of the whole answer; Rust's syntax, without look-around
  kChoice,          // one of the strings of a JSON array
  kLark,            // llguidance's form of Lark, from the rule `start`, or GBNF, from `root`
  kToolCalls,       // free text and calls, by a JSON description: ToolCalls in src/tool_grammar.rs
  kStructuralTags,  // free text and tags, by another one: src/structural_tag.rs
};

struct GrammarSource {
  GrammarKind kind{};
  std::string text;
  bool operator==(const GrammarSource&) const = default;
};

// Bounds of compiling; the daemon hands in its own (server/grammars.h).
struct CompileLimits {
  uint64_t wait_ms = 3000;           // then refused, and left behind
  size_t left_behind_per_owner = 2;  // that still compile; at either bound none is begun
  size_t left_behind = 8;
};

// Thread: one at a time.
class GrammarMatcher {
 public:
  virtual ~GrammarMatcher();
  // The token that was drawn: one that was allowed.
  virtual absl::Status Consume(int32_t token) = 0;
  // What may come next: the tokens of `forced` alone, one after the other; or it is left empty, and
  // each token whose bit is set in `mask` (32 a word, the lowest first; one bit a token of the
  // model). Once the grammar is complete, end tokens.
  // kInvalidArgument: a limit was passed; the message is for the caller.
  virtual absl::Status Next(std::span<uint32_t> mask, std::vector<int32_t>& forced) = 0;
};

// Thread: any.
class Grammar {
 public:
  virtual ~Grammar();
  virtual absl::StatusOr<std::unique_ptr<GrammarMatcher>> NewMatcher() const = 0;
};

// Thread: any.
class GrammarCompiler {
 public:
  virtual ~GrammarCompiler();
  // `tokenizer` must be one of text.h's factories; it is kept alive. `vocab_size` is the model's.
  // `ends`: the tokens that end an answer, at least one.
  static absl::StatusOr<std::unique_ptr<GrammarCompiler>> Create(const Tokenizer& tokenizer,
                                                                 int32_t vocab_size,
                                                                 std::span<const int32_t> ends,
                                                                 const CompileLimits& limits = {});
  // `owner`: whose it is; those left behind are counted by it. kInvalidArgument: what is wrong with
  // it or not supported, or that it takes too long, for the caller. kResourceExhausted: too many
  // were left behind and have not ended yet.
  virtual absl::StatusOr<std::unique_ptr<Grammar>> Compile(const GrammarSource& source,
                                                           uint64_t owner) const = 0;
};

}  // namespace holdfast
