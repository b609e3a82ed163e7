// The grammars of the served model, compiled as they are asked for and kept: for each tenant the
// last kGrammarsPerTenant within kGrammarBytesPerTenant, so that one tenant's many push out nobody
// else's.
//
// What compiling needs is made when the first is asked for (about 0.15 s): most daemons never see
// one.
//
// Thread: any. Compiling is bounded (text/grammar.h), and a caller waits for it outside the lock;
// two may compile the same at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/base/mutex.h"
#include "config/ids.h"
#include "config/limits.h"
#include "scheduler/request.h"
#include "text/grammar.h"

namespace holdfast {

// Of the sources of those that are kept; compiled they take up to a thousand times as much.
inline constexpr size_t kGrammarBytesPerTenant = 256 << 10;

inline constexpr CompileLimits kCompileLimits = {
    .wait_ms = kGrammarCompileMsMax,
    .left_behind_per_owner = kGrammarsLeftBehindPerTenant,
    .left_behind = kGrammarsLeftBehindMax};

class Grammars final {
 public:
  // `tokenizer` outlives it. `ends`: the tokens that end an answer.
  Grammars(const Tokenizer& tokenizer, int32_t vocab_size, std::vector<TokenId> ends,
           const CompileLimits& limits = kCompileLimits);
  ~Grammars();

  // kInvalidArgument: what is wrong with the grammar. kFailedPrecondition: the model cannot be held
  // to one. kResourceExhausted: too many of this tenant's, or of all, compile for longer than
  // anybody waits; what is kept is still found.
  absl::StatusOr<std::shared_ptr<const Grammar>> Of(TenantIndex tenant,
                                                    const GrammarSource& source);
  // For one choice, from its first token on.
  static absl::StatusOr<std::unique_ptr<TokenConstraint>> ConstraintOf(const Grammar& grammar);

 private:
  class Kept;  // of one tenant

  void MakeCompiler();

  const Tokenizer& tokenizer_;
  const int32_t vocab_size_;
  const std::vector<TokenId> ends_;
  const CompileLimits limits_;
  absl::once_flag compiler_made_;
  absl::StatusOr<std::unique_ptr<GrammarCompiler>> compiler_;  // after compiler_made_
  Mutex mutex_;
  std::map<TenantIndex, std::unique_ptr<Kept>> kept_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace holdfast
