// What grammars cost with a model's vocabulary: compiling one, a matcher of it, and the masks of an
// answer drawn at random.
//
// Reads one {"name": ..., "kind": "json" | "regex" | "choice" | "lark", "text": ...} a line from
// standard input (grammars.py makes them) and writes one JSON object a line. "documents": texts of
// which each is told whether it could be an answer. HOLDFAST_MODEL names the model.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/weights.h"
#include "server/model_text.h"
#include "text/grammar.h"

ABSL_FLAG(int, tokens, 200, "of each answer at most");
ABSL_FLAG(int, answers, 0,
          "drawn of each grammar besides, and written out where they come to an end");

namespace holdfast {
namespace {

using Json = nlohmann::json;

double Microseconds(absl::Duration duration) { return absl::ToDoubleMicroseconds(duration); }

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

GrammarKind KindOf(const std::string& name) {
  if (name == "regex") return GrammarKind::kRegex;
  if (name == "choice") return GrammarKind::kChoice;
  return name == "lark" ? GrammarKind::kLark : GrammarKind::kJsonSchema;
}

// Draws among what is allowed; times each mask.
absl::Status Walk(GrammarMatcher& matcher, int32_t vocab_size, const std::vector<TokenId>& ends,
                  std::mt19937& rng, std::vector<double>& masks, Json& report) {
  std::vector<uint32_t> words((static_cast<size_t>(vocab_size) + 31) / 32);
  int forced = 0, tokens = 0;
  bool ended = false;
  while (tokens < absl::GetFlag(FLAGS_tokens) && !ended) {
    std::vector<int32_t> next;
    const absl::Time begin = absl::Now();
    if (absl::Status status = matcher.Next(words, next); !status.ok()) return status;
    masks.push_back(Microseconds(absl::Now() - begin));
    forced += next.empty() ? 0 : 1;
    TokenId token = 0;
    if (!next.empty()) {
      token = next.front();
    } else {
      do token = static_cast<TokenId>(rng() % static_cast<uint32_t>(vocab_size));
      while ((words[static_cast<size_t>(token / 32)] >> (token % 32) & 1) == 0);
    }
    if (absl::Status status = matcher.Consume(token); !status.ok()) return status;
    ++tokens;
    ended = std::find(ends.begin(), ends.end(), token) != ends.end();
  }
  report["tokens"] = tokens;
  report["forced"] = forced;
  return absl::OkStatus();
}

// Whole answers; what ends strings, lists and objects is drawn more often than the rest.
absl::StatusOr<Json> Answers(const Grammar& grammar, const Tokenizer& tokenizer, int32_t vocab_size,
                             const std::vector<TokenId>& ends) {
  std::vector<TokenId> closing = ends;
  for (TokenId token = 0; token < tokenizer.vocab_size(); ++token) {
    const std::string_view bytes = tokenizer.TokenBytes(token);
    if (!bytes.empty() && std::string_view("\"]}").find(bytes[0]) != std::string_view::npos) {
      closing.push_back(token);
    }
  }
  Json answers = Json::array();
  std::mt19937 rng(2);
  std::vector<uint32_t> words((static_cast<size_t>(vocab_size) + 31) / 32);
  const auto allowed = [&](TokenId token) {
    return (words[static_cast<size_t>(token / 32)] >> (token % 32) & 1) != 0;
  };
  for (int i = 0; i < absl::GetFlag(FLAGS_answers); ++i) {
    const auto matcher = grammar.NewMatcher();
    if (!matcher.ok()) return matcher.status();
    std::string text;
    for (int tokens = 0; tokens < absl::GetFlag(FLAGS_tokens); ++tokens) {
      std::vector<int32_t> forced;
      if (absl::Status status = (*matcher)->Next(words, forced); !status.ok()) return status;
      TokenId token = forced.empty() ? 0 : forced.front();
      if (forced.empty()) {
        std::vector<TokenId> choices;
        if (rng() % 2 == 0) {
          std::copy_if(closing.begin(), closing.end(), std::back_inserter(choices), allowed);
        }
        const bool any = choices.empty();
        for (TokenId id = 0; any && id < vocab_size; ++id) {
          if (allowed(id)) choices.push_back(id);
        }
        token = choices[rng() % choices.size()];
      }
      if (absl::Status status = (*matcher)->Consume(token); !status.ok()) return status;
      if (std::find(ends.begin(), ends.end(), token) != ends.end()) {
        answers.push_back(text);
        break;
      }
      text += tokenizer.TokenBytes(token);
    }
  }
  return answers;
}

// Whether an answer can be this text, in the tokens that the tokenizer makes of it.
absl::StatusOr<bool> CanBe(const Grammar& grammar, const Tokenizer& tokenizer, int32_t vocab_size,
                           const std::string& text, const std::vector<TokenId>& ends) {
  const auto matcher = grammar.NewMatcher();
  if (!matcher.ok()) return matcher.status();
  std::vector<int32_t> tokens;
  const absl::Status encoded =
      tokenizer.Encode(text, SpecialTokens::kPlain, /*add_bos_eos=*/false, tokens);
  if (!encoded.ok()) return encoded;
  tokens.push_back(ends.front());
  std::vector<uint32_t> words((static_cast<size_t>(vocab_size) + 31) / 32);
  for (const int32_t token : tokens) {
    std::vector<int32_t> forced;
    if (absl::Status status = (*matcher)->Next(words, forced); !status.ok()) return status;
    const bool fits = !forced.empty()
                          ? forced.front() == token
                          : (words[static_cast<size_t>(token / 32)] >> (token % 32) & 1) != 0;
    if (!fits) return false;
    if (absl::Status status = (*matcher)->Consume(token); !status.ok()) return status;
  }
  return true;
}

Json Measure(const GrammarCompiler& compiler, const Tokenizer& tokenizer, const Json& asked,
             int32_t vocab_size, const std::vector<TokenId>& ends) {
  Json report = {{"name", asked.at("name")}};
  const absl::Time begin = absl::Now();
  const auto grammar = compiler.Compile({.kind = KindOf(asked.at("kind").get<std::string>()),
                                         .text = asked.at("text").get<std::string>()},
                                        0);
  report["compile_us"] = Microseconds(absl::Now() - begin);
  if (!grammar.ok()) {
    report["refused"] = std::string(grammar.status().message());
    return report;
  }
  std::vector<double> matchers, masks;
  std::mt19937 rng(1);
  for (int i = 0; i < 5; ++i) {
    const absl::Time made = absl::Now();
    const auto matcher = (*grammar)->NewMatcher();
    matchers.push_back(Microseconds(absl::Now() - made));
    if (absl::Status status = Walk(**matcher, vocab_size, ends, rng, masks, report); !status.ok()) {
      report["failed"] = std::string(status.message());
      break;
    }
  }
  if (auto answers = Answers(**grammar, tokenizer, vocab_size, ends); answers.ok()) {
    report["answers"] = *std::move(answers);
  } else {
    report["failed"] = std::string(answers.status().message());
  }
  for (const Json& document : asked.value("documents", Json::array())) {
    const auto can_be = CanBe(**grammar, tokenizer, vocab_size, document.get<std::string>(), ends);
    report["accepted"].push_back(can_be.ok() && *can_be);
  }
  report["matcher_us"] = Quantile(matchers, 0.5);
  report["mask_us"] = {
      {"p50", Quantile(masks, 0.5)}, {"p90", Quantile(masks, 0.9)}, {"max", Quantile(masks, 1.0)}};
  return report;
}

int Main() {
  const char* const path = std::getenv("HOLDFAST_MODEL");
  const auto model = LoadModel(path == nullptr ? "" : path);
  if (!model.ok()) {
    std::fprintf(stderr, "HOLDFAST_MODEL: %s\n", std::string(model.status().message()).c_str());
    return 1;
  }
  const auto tokenizer = MakeTokenizer(model->vocabulary);
  if (!tokenizer.ok()) return 1;
  const int32_t vocab_size = model->config.vocab_size;
  const std::vector<TokenId>& ends = model->config.eos_tokens;
  const absl::Time begin = absl::Now();
  const auto compiler = GrammarCompiler::Create(**tokenizer, vocab_size, ends);
  if (!compiler.ok()) return 1;
  std::cout << Json({{"compiler_us", Microseconds(absl::Now() - begin)}}).dump() << "\n";
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << Measure(**compiler, **tokenizer, Json::parse(line), vocab_size, ends)
                     .dump(-1, ' ', false, Json::error_handler_t::replace)
              << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return holdfast::Main();
}
