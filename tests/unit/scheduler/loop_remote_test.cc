// Two daemons' loops beside one real server: what one has computed the other fetches, and a server
// that lies, is slow or goes away costs time and nothing else. The fake engine turns any wrong
// block into a wrong token.
#include <csignal>
#include <memory>
#include <thread>
#include <utility>

#include "config/base/mutex.h"
#include "gtest/gtest.h"
#include "kvstore/remote_tier.h"
#include "scheduler/scheduler_loop.h"
#include "tests/sim/fake_engine.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/unit/kvstore/redis_process.h"
#include "tests/unit/kvstore/test_directory.h"
#include "tests/unit/scheduler/shared_sink.h"

namespace holdfast {
namespace {

class EngineMemory final : public BlockMover {
 public:
  EngineMemory(FakeEngine& engine, bool addressable) : engine_(engine), addressable_(addressable) {}
  std::span<std::byte> HostView(BlockId block) override {
    return addressable_ ? engine_.Bytes(block) : std::span<std::byte>();
  }
  absl::Status CopyOut(BlockId block, std::span<std::byte> out) override {
    std::ranges::copy(engine_.Bytes(block), out.begin());
    return absl::OkStatus();
  }
  absl::Status CopyIn(BlockId block, std::span<const std::byte> in) override {
    std::ranges::copy(in, engine_.Bytes(block).begin());
    return absl::OkStatus();
  }

 private:
  FakeEngine& engine_;
  const bool addressable_;
};

struct Served {
  explicit Served(const std::string& endpoint, absl::Duration call_timeout = absl::Seconds(20),
                  bool addressable = true)
      : device(engine, addressable) {
    RemoteTierOptions remote_options{.endpoint = endpoint,
                                     .block_bytes = engine.info().kv_layout.block_bytes(),
                                     .call_timeout = call_timeout,
                                     .rest = absl::ZeroDuration()};
    auto created = RemoteTier::Create(remote_options, clock);
    CHECK(created.ok());
    remote = *std::move(created);
    SchedulerOptions options;
    options.lookup_wait = call_timeout;
    options.kv.remote_usable = [this] { return remote->MayBeAsked(); };
    auto made = SchedulerLoop::Create(engine, options, registry, sink, nullptr, nullptr,
                                      {.device = &device, .remote = remote.get(), .recovered = {}});
    CHECK(made.ok());
    loop = *std::move(made);
  }
  RecordedRequest Ask(TokenId from) {
    const RequestId id{++last_id};
    CHECK(loop->Submit(MakeRequest(Number(id), MakePrompt(120, from), 3)) == Admit::kAccepted);
    return sink.Wait(id);
  }
  // Until all 7 blocks of a prompt have been put, or could not be.
  void WaitForPuts(uint64_t count) {
    for (;;) {
      const RemoteTierCounters counters = remote->counters();
      if (counters.blocks_put + counters.puts_failed >= count) return;
      std::this_thread::yield();
    }
  }

  FakeEngine engine{{.context_tokens = 128, .num_blocks = 20}};
  EngineMemory device;
  SteadyClock clock;
  std::unique_ptr<RemoteTier> remote;
  MetricsRegistry registry;
  SharedSink sink;
  uint64_t last_id = 0;
  std::unique_ptr<SchedulerLoop> loop;  // goes first
};

class LoopRemoteTest : public testing::Test {
 protected:
  void SetUp() override {
    if (RedisProcess::Find().empty()) GTEST_SKIP() << "no redis-server; ./dev test installs it";
    std::signal(SIGPIPE, SIG_IGN);  // as the daemon does
    std::string output;
    ASSERT_TRUE(server_.Start(output)) << output;
  }
  void Raw(RemoteCommand command) {
    auto connection = RemoteConnection::Connect(*ParseRemoteEndpoint(server_.endpoint()),
                                                absl::Seconds(20), absl::Seconds(20));
    ASSERT_TRUE(connection.ok()) << connection.status();
    ASSERT_TRUE((*connection)->Call({&command, 1}).ok());
  }

  TestDirectory directory_;
  RedisProcess server_{directory_.path()};
};

TEST_F(LoopRemoteTest, WhatOneComputedTheOtherFetchesAndSaysTheSame) {
  for (const bool addressable : {true, false}) {
    Raw({"FLUSHALL"});
    Served one(server_.endpoint(), absl::Seconds(20), addressable);
    const RecordedRequest first = one.Ask(1);
    EXPECT_EQ(first.prompt->cached_tokens, 0);
    one.WaitForPuts(7);
    Served other(server_.endpoint(), absl::Seconds(20), addressable);
    const RecordedRequest again = other.Ask(1);
    EXPECT_EQ(again.prompt->cached_tokens, 112);
    EXPECT_EQ(again.choices, first.choices);
    EXPECT_EQ(other.Ask(2).prompt->cached_tokens, 0);
    EXPECT_EQ(other.remote->counters().blocks_fetched, 7u);
  }
}

TEST_F(LoopRemoteTest, AValueThatWasChangedIsNotUsed) {
  Served one(server_.endpoint());
  const RecordedRequest first = one.Ask(1);
  one.WaitForPuts(7);
  // The last byte of each.
  Raw({"EVAL",
       "for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('SETRANGE', key, "
       "redis.call('STRLEN', key) - 1, 'x') end",
       "0"});
  Served other(server_.endpoint());
  const RecordedRequest again = other.Ask(1);
  EXPECT_EQ(again.choices, first.choices);
  EXPECT_GT(other.remote->counters().fetches_unproven, 0u);
}

TEST_F(LoopRemoteTest, AServerThatHangsOrIsGoneDelaysNobodyForEver) {
  Served one(server_.endpoint());
  const RecordedRequest first = one.Ask(1);
  one.WaitForPuts(7);
  Served other(server_.endpoint(), absl::Milliseconds(50));
  server_.Pause();
  EXPECT_EQ(other.Ask(1).choices, first.choices);
  server_.Resume();
  server_.Kill();
  for (TokenId from = 2; from < 6; ++from) ASSERT_TRUE(other.Ask(from).done->ok());
  EXPECT_GT(other.remote->counters().calls_failed, 0u);
  // It comes back empty, and is used again.
  std::string output;
  ASSERT_TRUE(server_.Start(output)) << output;
  Served third(server_.endpoint());
  const RecordedRequest sent = third.Ask(9);
  third.WaitForPuts(7);
  const RecordedRequest said = other.Ask(9);
  EXPECT_EQ(said.choices, sent.choices);
}

TEST_F(LoopRemoteTest, StoppingInTheMiddleAnswersEveryRequest) {
  for (uint64_t stop_after = 1; stop_after < 8; ++stop_after) {
    Served served(server_.endpoint());
    for (uint64_t id = 1; id <= stop_after; ++id) {
      const auto from = static_cast<TokenId>(id % 3);
      ASSERT_EQ(served.loop->Submit(MakeRequest(id, MakePrompt(120, from), 3)), Admit::kAccepted);
    }
    if (stop_after % 2 == 0) served.sink.Wait(RequestId{1});
    served.loop->Stop();
    for (uint64_t id = 1; id <= stop_after; ++id) {
      EXPECT_TRUE(served.sink.Wait(RequestId{id}).done.has_value());
    }
  }
}

}  // namespace
}  // namespace holdfast
