#include "kvstore/remote_tier.h"

#include <gtest/gtest.h>

#include <csignal>
#include <thread>
#include <vector>

#include "tests/unit/kvstore/redis_process.h"
#include "tests/unit/kvstore/test_directory.h"
#include "tests/unit/kvstore/tier_test_blocks.h"

namespace holdfast {
namespace {

constexpr size_t kBlockBytes = 50'000;  // some socket buffers

class TestClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1'000'000);
};

absl::Status PutOne(RemoteTier& tier, uint32_t chain) {
  const BlockIdentity identity = TestIdentity(chain);
  std::vector<std::byte> bytes = TestBytes(chain, kBlockBytes);
  TierTransfer transfer{.identity = &identity, .bytes = bytes};
  tier.Put({&transfer, 1});
  return transfer.status;
}

// kInternal: wrong bytes were given out as good.
absl::Status FetchOne(RemoteTier& tier, uint32_t chain, uint8_t scope = 1) {
  const BlockIdentity identity = TestIdentity(chain, 0, scope);
  std::vector<std::byte> bytes(kBlockBytes);
  TierTransfer transfer{.identity = &identity, .bytes = bytes};
  tier.Fetch({&transfer, 1});
  if (transfer.status.ok() && bytes != TestBytes(chain, kBlockBytes)) {
    return absl::InternalError("wrong bytes were served");
  }
  return transfer.status;
}

class RemoteTierTest : public testing::Test {
 protected:
  void SetUp() override {
    if (RedisProcess::Find().empty()) GTEST_SKIP() << "no redis-server; ./dev test installs it";
    std::signal(SIGPIPE, SIG_IGN);  // as the daemon does
    Start();
  }
  void Start() {
    std::string output;
    ASSERT_TRUE(server_.Start(output)) << output;
  }
  RemoteTierOptions Options() {
    RemoteTierOptions options{.endpoint = server_.endpoint(),
                              .block_bytes = kBlockBytes,
                              .call_timeout = absl::Seconds(20)};
    options.layout.fill(9);
    return options;
  }
  std::unique_ptr<RemoteTier> MakeTier(const RemoteTierOptions& options) {
    auto tier = RemoteTier::Create(options, clock_);
    EXPECT_TRUE(tier.ok()) << tier.status();
    return *std::move(tier);
  }
  // Runs one command on the server, past the tier.
  RemoteReply Raw(RemoteCommand command) {
    auto connection = RemoteConnection::Connect(*ParseRemoteEndpoint(server_.endpoint()),
                                                absl::Seconds(20), absl::Seconds(20));
    EXPECT_TRUE(connection.ok()) << connection.status();
    auto replies = (*connection)->Call({&command, 1});
    EXPECT_TRUE(replies.ok()) << replies.status();
    return std::move((*replies)[0]);
  }

  TestDirectory directory_;
  RedisProcess server_{directory_.path()};
  TestClock clock_;
};

TEST_F(RemoteTierTest, WhatOneDaemonPutAnotherFetches) {
  auto one = MakeTier(Options()), other = MakeTier(Options());
  ASSERT_TRUE(PutOne(*one, 1).ok());
  EXPECT_TRUE(FetchOne(*other, 1).ok());
  EXPECT_TRUE(absl::IsNotFound(FetchOne(*other, 2)));
  EXPECT_TRUE(absl::IsNotFound(FetchOne(*other, 1, /*scope=*/2)));
  EXPECT_EQ(other->counters().blocks_fetched, 1u);
  EXPECT_EQ(other->counters().blocks_absent, 2u);
}

TEST_F(RemoteTierTest, ManyBlocksGoInOneCallAndLookUpsTellWhichAreThere) {
  auto tier = MakeTier(Options());
  std::vector<BlockIdentity> identities;
  std::vector<std::vector<std::byte>> bytes;
  for (uint32_t i = 0; i < 40; ++i) {
    identities.push_back(TestIdentity(i));
    bytes.push_back(TestBytes(i, kBlockBytes));
  }
  std::vector<TierTransfer> transfers;
  for (size_t i = 0; i < 40; i += 2) {
    transfers.push_back({.identity = &identities[i], .bytes = bytes[i]});
  }
  tier->Put(transfers);
  for (const TierTransfer& transfer : transfers) ASSERT_TRUE(transfer.status.ok());
  std::vector<BlockDigest> digests;
  for (const BlockIdentity& identity : identities) digests.push_back(identity.digest);
  const auto found = tier->Contains(digests);
  ASSERT_TRUE(found.ok()) << found.status();
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ((*found)[i], i % 2 == 0) << i;
  for (uint32_t i = 0; i < 40; i += 2) ASSERT_TRUE(FetchOne(*tier, i).ok());
  EXPECT_TRUE(tier->Contains({})->empty());
}

TEST_F(RemoteTierTest, WhatIsNotProvenIsDataLoss) {
  auto tier = MakeTier(Options());
  const std::string key = tier->KeyOf(TestIdentity(1).digest);
  const auto change = [&](const char* what, RemoteCommand command) {
    ASSERT_TRUE(PutOne(*tier, 1).ok());
    ASSERT_TRUE(FetchOne(*tier, 1).ok());
    ASSERT_FALSE(Raw(std::move(command)).error().has_value()) << what;
    EXPECT_TRUE(absl::IsDataLoss(FetchOne(*tier, 1))) << what;
  };
  change("a bit of the header", {"SETBIT", key, "130", "1"});
  change("the last byte",
         {"SETRANGE", key, std::to_string(kRecordHeaderBytes + kBlockBytes - 1), "x"});
  change("a byte more", {"APPEND", key, "x"});
  change("something short", {"SET", key, "x"});
  ASSERT_TRUE(PutOne(*tier, 2).ok());
  change("another block", {"COPY", tier->KeyOf(TestIdentity(2).digest), key, "REPLACE"});
  ASSERT_TRUE(PutOne(*tier, 1).ok()) << "a put heals it";
  EXPECT_TRUE(FetchOne(*tier, 1).ok());
  Raw({"DEL", key});
  Raw({"LPUSH", key, "x"});
  EXPECT_TRUE(absl::IsDataLoss(FetchOne(*tier, 1))) << "no string at all";
}

TEST_F(RemoteTierTest, AnotherModelsBlocksAreNotBelieved) {
  RemoteTierOptions other = Options();
  other.layout.fill(8);
  ASSERT_TRUE(PutOne(*MakeTier(other), 1).ok());
  EXPECT_TRUE(absl::IsDataLoss(FetchOne(*MakeTier(Options()), 1)));
}

TEST_F(RemoteTierTest, ATtlIsGivenToTheServer) {
  RemoteTierOptions options = Options();
  auto forever = MakeTier(options);
  options.ttl = absl::Hours(1);
  auto tier = MakeTier(options);
  ASSERT_TRUE(PutOne(*tier, 1).ok());
  ASSERT_TRUE(PutOne(*forever, 2).ok());
  const int64_t left = *Raw({"PTTL", tier->KeyOf(TestIdentity(1).digest)}).integer();
  EXPECT_GT(left, 3'000'000);
  EXPECT_LE(left, 3'600'000);
  EXPECT_EQ(Raw({"PTTL", tier->KeyOf(TestIdentity(2).digest)}).integer(), -1);
}

TEST_F(RemoteTierTest, AServerThatDiesIsLeftAloneAndFoundAgain) {
  RemoteTierOptions options = Options();
  options.failures_max = 2;
  auto tier = MakeTier(options);
  ASSERT_TRUE(PutOne(*tier, 1).ok());
  server_.Kill();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(FetchOne(*tier, 1).code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(tier->state(), CircuitBreaker::State::kOpen);
  Start();
  EXPECT_EQ(FetchOne(*tier, 1).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(tier->counters().calls_refused, 1u);
  clock_.now += options.rest;
  EXPECT_TRUE(absl::IsNotFound(FetchOne(*tier, 1)));  // it kept nothing
  EXPECT_EQ(tier->state(), CircuitBreaker::State::kClosed);
  EXPECT_TRUE(PutOne(*tier, 1).ok());
  EXPECT_TRUE(FetchOne(*tier, 1).ok());
}

TEST_F(RemoteTierTest, ARestartBetweenTwoCallsIsNoFailure) {
  auto tier = MakeTier(Options());
  ASSERT_TRUE(PutOne(*tier, 1).ok());
  server_.Kill();
  Start();
  EXPECT_TRUE(absl::IsNotFound(FetchOne(*tier, 1)));
  EXPECT_EQ(tier->counters().calls_failed, 0u);
}

TEST_F(RemoteTierTest, AServerThatHangsCostsOneTimeOutPerCall) {
  RemoteTierOptions options = Options();
  options.call_timeout = absl::Milliseconds(50);
  auto tier = MakeTier(options);
  static_cast<void>(tier->Contains(std::vector{TestIdentity(1).digest}));
  server_.Pause();
  const absl::Status status = FetchOne(*tier, 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_NE(status.message().find("slow"), absl::string_view::npos) << status;
  server_.Resume();
}

TEST_F(RemoteTierTest, AFullServerIsToldFromADeadOne) {
  auto tier = MakeTier(Options());
  Raw({"CONFIG", "SET", "maxmemory", "1mb"});
  absl::Status status = absl::OkStatus();
  for (uint32_t chain = 0; chain < 100 && status.ok(); ++chain) status = PutOne(*tier, chain);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(tier->state(), CircuitBreaker::State::kClosed);
}

TEST_F(RemoteTierTest, ThePasswordIsGivenAndAWrongOneRefused) {
  Raw({"CONFIG", "SET", "requirepass", "secret"});
  EXPECT_EQ(PutOne(*MakeTier(Options()), 1).code(), absl::StatusCode::kUnavailable);
  RemoteTierOptions options = Options();
  options.password = "wrong";
  EXPECT_EQ(PutOne(*MakeTier(options), 1).code(), absl::StatusCode::kUnavailable);
  options.password = "secret";
  EXPECT_TRUE(PutOne(*MakeTier(options), 1).ok());
  options.username = "default";
  EXPECT_TRUE(FetchOne(*MakeTier(options), 1).ok());
}

TEST_F(RemoteTierTest, CallersBeyondTheConnectionsAreRefusedAndTheOthersServed) {
  RemoteTierOptions options = Options();
  options.connections_max = 2;
  auto tier = MakeTier(options);
  ASSERT_TRUE(PutOne(*tier, 1).ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const absl::Status status = FetchOne(*tier, 1);
        ASSERT_TRUE(status.ok() || absl::IsUnavailable(status)) << status;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const RemoteTierCounters counters = tier->counters();
  EXPECT_EQ(counters.blocks_fetched + counters.calls_refused, 200u);
  EXPECT_EQ(counters.calls_failed, 0u);
  EXPECT_GT(counters.blocks_fetched, 0u);
}

TEST(RemoteTierOptionsTest, ABlockLargerThanAValueMayBeIsRefusedAtTheStart) {
  TestClock clock;
  const auto tier = RemoteTier::Create(
      {.endpoint = "localhost:6379", .block_bytes = 1000, .value_bytes_max = 1000}, clock);
  EXPECT_EQ(tier.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace holdfast
