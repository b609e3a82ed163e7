// The generation service over the real scheduler and store, with the engine alone being fake.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/base/metrics.h"
#include "scheduler/scheduler_loop.h"
#include "server/generation_service.h"
#include "tests/sim/fake_engine.h"
#include "tests/unit/server/byte_tokenizer.h"
#include "tests/unit/server/stream_reader.h"

namespace holdfast {
namespace {

class GenerationOverSchedulerTest : public testing::Test {
 protected:
  GenerationOverSchedulerTest() {
    GenerationServiceOptions options{.eos_tokens = {ByteTokenizer::kEos}, .kv_layout = "fake"};
    options.model.name = "fake";
    options.model.context_tokens = 256;
    options.model.vocab_size = tokenizer_.vocab_size();
    service_ = std::make_unique<SchedulerGenerationService>(options, tokenizer_, nullptr, clock_,
                                                            metrics_);
    auto loop = SchedulerLoop::Create(engine_, {.running_max = 8, .model_name = "fake"}, metrics_,
                                      *service_);
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    service_->Connect(PortTo(*loop_));
  }
  ~GenerationOverSchedulerTest() override {
    loop_->Stop();
    service_->Shutdown();
  }

  GenerationRequest Ask(std::string prompt, int32_t max_tokens, uint64_t seed = 1) {
    GenerationRequest request;
    request.wire_id = absl::StrCat("id-", seed);
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.ignore_eos = true;
    request.sampling.seed = seed;
    request.sampling.top_logprobs = 2;
    request.arrival = clock_.Now();
    return request;
  }
  ReadStream Run(GenerationRequest request) {
    return ReadToEnd(*service_->Start(std::move(request)));
  }
  void ExpectNothingIsHeld() {
    EXPECT_TRUE(service_->WaitIdle(absl::InfiniteFuture()));
    const SchedulerSnapshot now = loop_->snapshot();
    EXPECT_EQ(now.requests, 0);
    // The counts are published after the event that we have seen.
    while (loop_->snapshot().blocks.held != 0) std::this_thread::yield();
  }

  ByteTokenizer tokenizer_;
  FakeEngine engine_{{.vocab_size = 258, .context_tokens = 256, .num_blocks = 40}};
  SteadyClock clock_;
  MetricsRegistry metrics_;
  std::unique_ptr<SchedulerGenerationService> service_;
  std::unique_ptr<SchedulerLoop> loop_;
};

TEST_F(GenerationOverSchedulerTest, APieceByPieceReaderAndALateOneSeeTheSameText) {
  auto late = service_->Start(Ask("Hello", 60));
  EXPECT_TRUE(service_->WaitIdle(absl::InfiniteFuture()));
  const ReadStream whole = ReadToEnd(*late);
  const ReadStream pieces = Run(Ask("Hello", 60));
  EXPECT_EQ(pieces.choices.at(0).text, whole.choices.at(0).text);
  EXPECT_EQ(pieces.choices.at(0).tokens, whole.choices.at(0).tokens);
  EXPECT_EQ(whole.choices.at(0).tokens.size(), 60u);
  EXPECT_EQ(whole.choices.at(0).logprobs.size(), 60u);
  EXPECT_EQ(whole.done.completion_tokens, 60);
  EXPECT_EQ(whole.choices.at(0).finish, FinishReason::kLength);
}

TEST_F(GenerationOverSchedulerTest, AStopStringCutsTheVeryTextThatComesWithoutIt) {
  const ReadChoice whole = Run(Ask("Hello", 100)).choices.at(0);
  for (size_t at = 0; at + 4 < whole.text.size(); at += 7) {
    const std::string stop = whole.text.substr(at, 3);
    GenerationRequest ask = Ask("Hello", 100);
    ask.stop = {stop};
    const ReadStream cut = Run(std::move(ask));
    EXPECT_EQ(cut.choices.at(0).text, whole.text.substr(0, whole.text.find(stop)));
    EXPECT_EQ(cut.choices.at(0).finish, FinishReason::kStop);
    EXPECT_LE(cut.done.completion_tokens, 100);
  }
  ExpectNothingIsHeld();
}

TEST_F(GenerationOverSchedulerTest, ChoicesEndEachInTheirOwnTime) {
  GenerationRequest ask = Ask("Hello", 40);
  ask.num_choices = 4;
  const ReadStream whole = Run(ask);
  ASSERT_EQ(whole.choices.size(), 4u);
  ask.stop = {whole.choices.at(2).text.substr(5, 3)};
  const ReadStream cut = Run(ask);
  EXPECT_EQ(cut.choices.at(2).finish, FinishReason::kStop);
  EXPECT_EQ(whole.choices.at(2).text.find(cut.choices.at(2).text), 0u);
  EXPECT_EQ(cut.choices.size(), 4u);
  EXPECT_EQ(whole.done.completion_tokens, 160);
  ExpectNothingIsHeld();
}

TEST_F(GenerationOverSchedulerTest, EchoWithLogprobsCoversThePrompt) {
  GenerationRequest ask = Ask("a prompt of some length", 0);
  ask.echo = true;
  ask.prompt_top_logprobs = 1;
  const ReadStream read = Run(std::move(ask));
  ASSERT_TRUE(read.done.status.ok()) << read.done.status;
  EXPECT_EQ(read.prompt->text, "a prompt of some length");
  ASSERT_EQ(read.prompt->logprobs.size(), read.prompt->tokens.size());
  EXPECT_EQ(read.prompt->logprobs[5]->chosen.token, read.prompt->tokens[5]);
  EXPECT_EQ(read.choices.at(0).finish, FinishReason::kLength);
}

TEST_F(GenerationOverSchedulerTest, EmbeddingsOfOneBodyComeEachOnItsOwnStream) {
  for (const Pooling pooling : {Pooling::kLast, Pooling::kMean}) {
    std::vector<GenerationRequest> asks;
    for (const char* text : {"a text of more than one block of KV", "another", "another"}) {
      GenerationRequest ask = Ask(text, 0);
      ask.want_text = false;
      ask.embedding = EmbeddingWish{.pooling = pooling, .param = "input"};
      asks.push_back(std::move(ask));
    }
    std::vector<std::vector<float>> embeddings;
    for (const auto& stream : service_->StartAll(std::move(asks))) {
      const ReadStream read = ReadToEnd(*stream);
      ASSERT_TRUE(read.done.status.ok()) << read.done.status;
      EXPECT_EQ(read.done.completion_tokens, 0);
      embeddings.push_back(read.prompt->embedding);
      ASSERT_EQ(embeddings.back().size(), 2u);
      const float x = embeddings.back()[0], y = embeddings.back()[1];
      EXPECT_NEAR(x * x + y * y, 1.0f, 1e-6f);
    }
    EXPECT_EQ(embeddings[1], embeddings[2]);
    EXPECT_EQ(embeddings[0][1] != 0, pooling == Pooling::kMean);
  }
  ExpectNothingIsHeld();
}

TEST_F(GenerationOverSchedulerTest, ATextTooLongToEmbedIsRefusedByItsNameAndTokens) {
  GenerationRequest ask = Ask(std::string(300, 'a'), 0);
  ask.embedding = EmbeddingWish{.param = "input[7]"};
  const ReadStream read = Run(std::move(ask));
  EXPECT_EQ(read.done.status.message(), "input[7] has 300 tokens; the model takes 256; shorten it");
}

// Many at once, some dropped at a random time: the others get what they get alone, and no block and
// no request stays behind. The seed replays the choices, though not the threads' timing.
TEST_F(GenerationOverSchedulerTest, ClientsThatLeaveTakeNothingAlong) {
  constexpr int kClients = 60;
  std::vector<std::string> alone;
  for (int i = 0; i < 10; ++i) {
    alone.push_back(Run(Ask(absl::StrCat("prompt ", i), 50, i)).choices.at(0).text);
  }
  for (uint32_t seed = 0; seed < 3; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::vector<std::thread> clients;
    for (int i = 0; i < kClients; ++i) {
      clients.emplace_back([&, i] {
        std::mt19937 rng(seed * kClients + i);
        auto stream = service_->Start(Ask(absl::StrCat("prompt ", i % 10), 50, i % 10));
        if (rng() % 3 == 0) {
          for (uint32_t events = rng() % 20; events > 0; --events) {
            if (std::holds_alternative<GenerationDone>(NextEvent(*stream))) break;
          }
          return;  // and the stream is dropped
        }
        const ReadStream read = ReadToEnd(*stream);
        EXPECT_TRUE(read.done.status.ok()) << read.done.status;
        EXPECT_EQ(read.choices.at(0).text, alone[i % 10]);
      });
    }
    for (std::thread& client : clients) client.join();
    ExpectNothingIsHeld();
  }
}

}  // namespace
}  // namespace holdfast
