#include "server/text_workers.h"

#include <gtest/gtest.h>

#include <atomic>

#include "absl/synchronization/notification.h"

namespace holdfast {
namespace {

// Runs tasks, and notes tokens by worker.
class Recorder final : public TextWorkers::Handler {
 public:
  explicit Recorder(int32_t num_workers) : tokens(num_workers) {}
  absl::Duration Handle(int32_t worker, std::vector<TextMessage>& messages) override {
    for (TextMessage& message : messages) {
      if (auto* task = std::get_if<TextTask>(&message)) (*task)();
      if (auto* token = std::get_if<TimedToken>(&message)) {
        tokens[worker].push_back(token->event.token);
      }
    }
    return absl::InfiniteDuration();
  }
  std::vector<std::vector<TokenId>> tokens;  // to be read once the workers have stopped
};

TEST(TextWorkersTest, KeepTheOrderOfEachWorker) {
  Recorder recorder(2);
  {
    TextWorkers workers(2, recorder);
    for (TokenId i = 0; i < 1000; ++i) workers.Post(i % 2, TimedToken{.event = {.token = i}});
  }  // finishes what waits
  for (int32_t worker = 0; worker < 2; ++worker) {
    ASSERT_EQ(recorder.tokens[worker].size(), 500u);
    for (TokenId i = 0; i < 500; ++i) EXPECT_EQ(recorder.tokens[worker][i], 2 * i + worker);
  }
}

TEST(TextWorkersTest, TakeNothingAfterStop) {
  Recorder recorder(1);
  TextWorkers workers(1, recorder);
  workers.Stop();
  std::atomic<int> ran{0};
  workers.Post(0, TextTask([&ran] { ++ran; }));
  workers.Stop();
  EXPECT_EQ(ran, 0);
}

}  // namespace
}  // namespace holdfast
