#include "server/grammars.h"

#include <boost/multi_index/hashed_index.hpp>
#include <boost/multi_index/member.hpp>
#include <boost/multi_index/sequenced_index.hpp>
#include <boost/multi_index_container.hpp>
#include <string>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "config/base/status_macros.h"
#include "config/limits.h"

namespace holdfast {
namespace {

class GrammarConstraint final : public TokenConstraint {
 public:
  explicit GrammarConstraint(std::unique_ptr<GrammarMatcher> matcher)
      : matcher_(std::move(matcher)) {}

  absl::Status Consume(TokenId token) override { return matcher_->Consume(token); }
  absl::Status Next(std::span<uint32_t> words, std::vector<TokenId>& forced) override {
    return matcher_->Next(words, forced);
  }

 private:
  const std::unique_ptr<GrammarMatcher> matcher_;
};

struct HashOfSource {
  size_t operator()(const GrammarSource& source) const {
    return absl::HashOf(source.kind, source.text);
  }
};

}  // namespace

class Grammars::Kept final {
 public:
  std::shared_ptr<const Grammar> Find(const GrammarSource& source) {
    const auto& by_source = entries_.get<1>();
    const auto found = by_source.find(source);
    if (found == by_source.end()) return nullptr;
    entries_.relocate(entries_.begin(), entries_.project<0>(found));
    return found->grammar;
  }

  void Add(const GrammarSource& source, std::shared_ptr<const Grammar> grammar) {
    const auto [added, is_new] =
        entries_.push_front({.source = source, .grammar = std::move(grammar)});
    if (is_new) bytes_ += source.text.size();
    while (entries_.size() > 1 &&
           (entries_.size() > kGrammarsPerTenant || bytes_ > kGrammarBytesPerTenant)) {
      bytes_ -= entries_.back().source.text.size();
      entries_.pop_back();
    }
  }

 private:
  struct Entry {
    GrammarSource source;
    std::shared_ptr<const Grammar> grammar;
  };

  size_t bytes_ = 0;  // of the sources

  // The last used first.
  boost::multi_index_container<
      Entry,
      boost::multi_index::indexed_by<
          boost::multi_index::sequenced<>,
          boost::multi_index::hashed_unique<
              boost::multi_index::member<Entry, GrammarSource, &Entry::source>, HashOfSource>>>
      entries_;
};

Grammars::Grammars(const Tokenizer& tokenizer, int32_t vocab_size, std::vector<TokenId> ends,
                   const CompileLimits& limits)
    : tokenizer_(tokenizer),
      vocab_size_(vocab_size),
      ends_(std::move(ends)),
      limits_(limits),
      compiler_(absl::UnknownError("not made yet")) {}

Grammars::~Grammars() = default;

void Grammars::MakeCompiler() {
  compiler_ = GrammarCompiler::Create(tokenizer_, vocab_size_, ends_, limits_);
  if (compiler_.ok()) return;
  compiler_ = absl::FailedPreconditionError(absl::StrCat(
      "the served model's answers cannot be held to a grammar: ", compiler_.status().message()));
}

absl::StatusOr<std::shared_ptr<const Grammar>> Grammars::Of(TenantIndex tenant,
                                                            const GrammarSource& source) {
  {
    MutexLock lock(&mutex_);
    const auto of_tenant = kept_.find(tenant);
    if (of_tenant != kept_.end()) {
      if (auto kept = of_tenant->second->Find(source)) return kept;
    }
  }
  absl::call_once(compiler_made_, [this] { MakeCompiler(); });
  if (!compiler_.ok()) return compiler_.status();
  ASSIGN_OR_RETURN(std::shared_ptr<const Grammar> grammar,
                   (*compiler_)->Compile(source, static_cast<size_t>(Number(tenant))));
  MutexLock lock(&mutex_);
  std::unique_ptr<Kept>& kept = kept_[tenant];
  if (kept == nullptr) kept = std::make_unique<Kept>();
  kept->Add(source, grammar);
  return grammar;
}

absl::StatusOr<std::unique_ptr<TokenConstraint>> Grammars::ConstraintOf(const Grammar& grammar) {
  ASSIGN_OR_RETURN(std::unique_ptr<GrammarMatcher> matcher, grammar.NewMatcher());
  return std::make_unique<GrammarConstraint>(std::move(matcher));
}

}  // namespace holdfast
