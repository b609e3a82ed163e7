// What goes over the wire of KV events, and when.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "server/kv_event_codec.h"
#include "server/kv_event_publisher.h"
#include "server/zmq_socket.h"

namespace holdfast {
namespace {

using nlohmann::json;

KvEvent Stored(uint64_t block, std::optional<uint64_t> parent, TokenId token,
               TierKind tier = TierKind::kDevice) {
  KvEvent event{.kind = KvEvent::Kind::kStored,
                .tier = tier,
                .has_parent = parent.has_value(),
                .block = block,
                .parent = parent.value_or(0)};
  event.tokens.fill(token);
  return event;
}
KvEvent Removed(uint64_t block, TierKind tier = TierKind::kDevice) {
  return {.kind = KvEvent::Kind::kRemoved, .tier = tier, .block = block};
}

json Decoded(const std::vector<KvEvent>& events) {
  return json::from_msgpack(EncodeKvEvents(events, absl::FromUnixMillis(1'500)));
}

TEST(KvEventCodecTest, ABatchIsATimeEventsAndARank) {
  EXPECT_EQ(Decoded({{}}), json::parse(R"([1.5, [{"type": "AllBlocksCleared"}], 0])"));
}

TEST(KvEventCodecTest, ABlockIsNamedByUnsigned64BitsAndHasItsParentTokensAndMedium) {
  const json event = Decoded({Stored(~uint64_t{0}, 7, 42, TierKind::kHost)})[1][0];
  EXPECT_EQ(event["type"], "BlockStored");
  EXPECT_EQ(event["block_hashes"], json::array({~uint64_t{0}}));
  EXPECT_EQ(event["parent_block_hash"], 7);
  EXPECT_EQ(event["token_ids"], json(std::vector<int>(16, 42)));
  EXPECT_EQ(event["block_size"], 16);
  EXPECT_EQ(event["medium"], "CPU");
  EXPECT_TRUE(event.at("lora_id").is_null() && event.at("lora_name").is_null());
  EXPECT_TRUE(Decoded({Stored(1, std::nullopt, 0)})[1][0].at("parent_block_hash").is_null());
}

TEST(KvEventCodecTest, BlocksThatFollowEachOtherAreOneEvent) {
  const json events = Decoded({Stored(1, std::nullopt, 5), Stored(2, 1, 6), Stored(3, 1, 7),
                               Stored(4, 3, 8, TierKind::kDisk), Removed(9), Removed(8),
                               Removed(8, TierKind::kDisk)})[1];
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[0]["block_hashes"], json({1, 2}));
  EXPECT_EQ(events[0]["token_ids"].size(), 32u);
  EXPECT_EQ(events[0]["token_ids"][16], 6);
  EXPECT_EQ(events[1]["block_hashes"], json::array({3}));
  EXPECT_EQ(events[2]["medium"], "STORAGE");
  EXPECT_EQ(events[3]["block_hashes"], json({9, 8}));
  EXPECT_EQ(events[4]["medium"], "STORAGE");
}

class KvEventPublisherTest : public testing::Test {
 protected:
  void Open(KvEventOptions options) {
    if (options.endpoint.empty()) options.endpoint = "tcp://127.0.0.1:0";
    auto publisher = KvEventPublisher::Create(options, ring_, registry_, clock_);
    ASSERT_TRUE(publisher.ok()) << publisher.status();
    publisher_ = *std::move(publisher);
    context_.reset(zmq_ctx_new());
  }

  std::unique_ptr<ZmqSocket> Connect(int type, const std::string& endpoint) {
    auto socket = std::make_unique<ZmqSocket>();
    EXPECT_TRUE(socket->Open(context_, type).ok());
    socket->Set(ZMQ_LINGER, 0);
    if (type == ZMQ_SUB) {
      socket->Set(ZMQ_RCVHWM, 1);
      EXPECT_EQ(zmq_setsockopt(socket->get(), ZMQ_SUBSCRIBE, "", 0), 0);
    }
    EXPECT_EQ(zmq_connect(socket->get(), endpoint.c_str()), 0);
    return socket;
  }

  // A whole message; empty: none comes.
  static std::vector<std::string> Receive(ZmqSocket& socket, int64_t patience_ms = 30'000) {
    zmq_pollitem_t item{.socket = socket.get(), .events = ZMQ_POLLIN};
    if (zmq_poll(&item, 1, patience_ms) != 1) return {};
    std::vector<std::string> parts;
    ZmqMessage part;
    for (bool more = true; more && socket.Receive(part, more);) {
      parts.emplace_back(part.bytes().begin(), part.bytes().end());
    }
    return parts;
  }

  // One batch of its own.
  void Tell(uint64_t block) {
    const double before = Count("batches");
    ASSERT_TRUE(ring_.Push(Stored(block, std::nullopt, 1)));
    ring_.Wake();
    while (Count("batches") == before) absl::SleepFor(absl::Microseconds(50));
  }

  double Count(const std::string& what) {
    const std::string name = "\nholdfast_server_kv_event_" + what + "_total ";
    const std::string text = "\n" + registry_.Serialize();
    const size_t at = text.find(name);
    return at == std::string::npos ? -1 : std::stod(text.substr(at + name.size()));
  }

  static std::string Number(uint64_t number) {
    std::string bytes(8, '\0');
    for (size_t i = 0; i < 8; ++i) bytes[7 - i] = static_cast<char>(number >> (8 * i));
    return bytes;
  }

  void Ask(ZmqSocket& dealer, std::string_view question) {
    ASSERT_TRUE(dealer.Send(ZmqMessage(), true));
    ASSERT_TRUE(dealer.Send(ZmqMessage(question), false));
  }

  WallClock clock_;
  MetricsRegistry registry_;
  KvEventRing ring_{4096};
  std::unique_ptr<KvEventPublisher> publisher_;
  ZmqContext context_;
};

TEST_F(KvEventPublisherTest, WhatWasSentIsSentAgainToWhoeverAsksFromANumberOn) {
  Open({.replay_endpoint = "tcp://127.0.0.1:0", .topic = "kv@a@b"});
  for (uint64_t i = 0; i < 300; ++i) Tell(i);
  const auto dealer = Connect(ZMQ_DEALER, publisher_->replay_endpoint());
  Ask(*dealer, Number(100));
  for (uint64_t i = 100; i < 300; ++i) {
    const std::vector<std::string> parts = Receive(*dealer);
    ASSERT_EQ(parts.size(), 4u);
    EXPECT_EQ(parts[0], "");
    EXPECT_EQ(parts[1], "kv@a@b");
    ASSERT_EQ(parts[2], Number(i));
    EXPECT_EQ(json::from_msgpack(parts[3])[1][0]["block_hashes"][0], i);
  }
  EXPECT_THAT(Receive(*dealer), testing::ElementsAre("", "", std::string(8, '\xff'), ""));
  // Questions that are none have no answer; the next has.
  Ask(*dealer, "1234567");
  Ask(*dealer, Number(1000));
  EXPECT_THAT(Receive(*dealer), testing::ElementsAre("", "", std::string(8, '\xff'), ""));
}

TEST_F(KvEventPublisherTest, OnlyTheLastBytesAreKept) {
  Open({.replay_endpoint = "tcp://127.0.0.1:0", .replay_bytes = 2000});
  for (uint64_t i = 0; i < 100; ++i) Tell(i);
  const auto dealer = Connect(ZMQ_DEALER, publisher_->replay_endpoint());
  Ask(*dealer, Number(0));
  size_t bytes = 0, count = 0;
  for (;; ++count) {
    const std::vector<std::string> parts = Receive(*dealer);
    ASSERT_EQ(parts.size(), 4u);
    if (parts[3].empty()) break;
    bytes += parts[3].size();
  }
  EXPECT_GT(count, 5u);
  EXPECT_LE(bytes, 2000u);
}

TEST_F(KvEventPublisherTest, ASubscriberThatReadsNothingHoldsNobodyUpAndIsCounted) {
  const std::string path = testing::TempDir() + "kv_events_" + std::to_string(getpid());
  Open({.endpoint = "ipc://" + path});
  const auto slow = Connect(ZMQ_SUB, publisher_->endpoint());
  const auto fast = Connect(ZMQ_SUB, publisher_->endpoint());
  uint64_t told = 0;
  while (Receive(*slow, 0).empty()) Tell(told++);
  while (Receive(*fast, 0).empty()) Tell(told++);
  uint64_t next = 0;
  bool has_next = false;
  // What the system's buffers of a connection and its queue hold is missed only then.
  for (int i = 0; Count("batches_missed") == 0; ++i) {
    ASSERT_LT(i, 200'000);
    Tell(told++);
    if (i % 16 != 0) continue;
    for (std::vector<std::string> parts; !(parts = Receive(*fast, 0)).empty();) {
      ASSERT_EQ(parts.size(), 3u);
      if (has_next) {
        ASSERT_EQ(parts[1], Number(next)) << "a gap";
      }
      for (next = 0; const char byte : parts[1]) next = next << 8 | static_cast<uint8_t>(byte);
      has_next = true;
      ++next;
    }
  }
  EXPECT_GT(Count("batches_missed"), 0);
}

TEST_F(KvEventPublisherTest, TheLastEventsAreSentAtTheEnd) {
  Open({});
  const auto subscriber = Connect(ZMQ_SUB, publisher_->endpoint());
  uint64_t told = 0;
  while (Receive(*subscriber, 0).empty()) Tell(told++);
  while (!Receive(*subscriber, 100).empty()) {
  }
  ASSERT_TRUE(ring_.Push(Stored(99'999, std::nullopt, 1)));  // and nobody wakes it
  publisher_.reset();
  const std::vector<std::string> parts = Receive(*subscriber);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(json::from_msgpack(parts[2])[1][0]["block_hashes"][0], 99'999);
}

TEST_F(KvEventPublisherTest, AnAddressThatIsTakenIsAnErrorWithTheSettingsName) {
  Open({});
  const auto second =
      KvEventPublisher::Create({.endpoint = publisher_->endpoint()}, ring_, registry_, clock_);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()),
              testing::StartsWith("kv.events.endpoint: `tcp://127.0.0.1:"));
}

}  // namespace
}  // namespace holdfast
