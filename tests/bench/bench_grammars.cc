// What grammars cost with a model's vocabulary: compiling one, a matcher of it, and the masks of an
// answer drawn at random.
//
// Reads one {"name": ..., "kind": "json" | "regex" | "choice" | "lark", "text": ...} a line from
// standard input (grammars.py makes them) and writes one JSON object a line. HOLDFAST_MODEL names
// the model.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
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
    std::optional<int32_t> only;
    const absl::Time begin = absl::Now();
    if (absl::Status status = matcher.Next(words, only); !status.ok()) return status;
    masks.push_back(Microseconds(absl::Now() - begin));
    forced += only.has_value() ? 1 : 0;
    TokenId token = 0;
    if (only) {
      token = *only;
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

Json Measure(const GrammarCompiler& compiler, const Json& asked, int32_t vocab_size,
             const std::vector<TokenId>& ends) {
  Json report = {{"name", asked.at("name")}};
  const absl::Time begin = absl::Now();
  const auto grammar = compiler.Compile({.kind = KindOf(asked.at("kind").get<std::string>()),
                                         .text = asked.at("text").get<std::string>()});
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
    std::cout << Measure(**compiler, Json::parse(line), vocab_size, ends).dump() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return holdfast::Main();
}
