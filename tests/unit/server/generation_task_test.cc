#include "server/generation_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "config/base/metrics.h"
#include "tests/unit/server/byte_tokenizer.h"
#include "tests/unit/server/stream_reader.h"

namespace holdfast {
namespace {

using testing::ElementsAre;

// What an echoing request of these tokens says of its prompt.
PromptInfo Echo(std::variant<ChatInput, std::string, std::vector<TokenId>> prompt,
                const std::vector<TokenId>& tokens, bool skip_special_tokens) {
  MetricsRegistry registry;
  GenerationMetrics metrics(registry, {"default"}, "tiny");
  const ByteTokenizer tokenizer;
  StreamEnds ends = MakeTokenStream([] {});
  GenerationRequest request;
  request.prompt = std::move(prompt);
  request.echo = true;
  request.skip_special_tokens = skip_special_tokens;
  request.prompt_top_logprobs = 0;
  request.max_tokens = 1;
  GenerationTask task(RequestId{1}, std::move(request), tokens, std::move(ends.writer), tokenizer,
                      metrics.Of(TenantIndex{0}));
  task.OnPrompt({.request = RequestId{1},
                 .prompt_logprobs = std::vector<PromptEvent::TokenWithTop>(tokens.size() - 1)});
  return std::get<PromptInfo>(NextEvent(*ends.reader));
}

TEST(GenerationTaskTest, OffsetsOfAWrittenPromptAreInWhatWasWritten) {
  for (const bool skip : {true, false}) {  // what the model puts before it was not written
    const PromptInfo info =
        Echo(std::string("a\xc3\xbc!"), {ByteTokenizer::kBos, 'a', 0xc3, 0xbc, '!'}, skip);
    EXPECT_EQ(info.text, "a\xc3\xbc!");
    EXPECT_THAT(info.text_offsets, ElementsAre(0, 0, 1, 1, 2));
  }
}

TEST(GenerationTaskTest, OffsetsOfATokenPromptCountWhatItsTextShows) {
  const std::vector<TokenId> tokens = {'a', ByteTokenizer::kEos, 'b'};
  const PromptInfo hidden = Echo(tokens, tokens, true);
  EXPECT_EQ(hidden.text, "ab");
  EXPECT_THAT(hidden.text_offsets, ElementsAre(0, 1, 1));
  const PromptInfo shown = Echo(tokens, tokens, false);
  EXPECT_EQ(shown.text, "a<eos>b");
  EXPECT_THAT(shown.text_offsets, ElementsAre(0, 1, 6));
}

}  // namespace
}  // namespace holdfast
