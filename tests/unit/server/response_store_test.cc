#include "server/response_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/state.h"
#include "tests/unit/server/full_disk.h"

namespace holdfast {
namespace {

class SetClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1'000'000);
};

Json Item(const std::string& text) { return {{"id", text}, {"text", text}}; }

class ResponseStoreTest : public testing::Test {
 protected:
  ResponseStoreTest() { Open(); }
  ~ResponseStoreTest() override {
    state_.reset();
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + end);
  }
  void Open() {
    state_.reset();
    auto state = State::Open(path_, {.responses = bounds_}, clock_);
    ASSERT_TRUE(state.ok()) << state.status();
    state_ = *std::move(state);
  }
  ResponseStore& store() { return state_->responses(); }
  // One that says `text` and is answered in capitals.
  void Add(const std::string& id, const std::string& previous = "", bool open = false,
           const std::string& tenant = "red") {
    Json input = Json::array(), output = Json::array();
    input.push_back(Item("in-" + id));
    output.push_back(Item("out-" + id));
    const Json response = {
        {"id", id}, {"status", open ? "in_progress" : "completed"}, {"output", std::move(output)}};
    const absl::Status added = store().Add(
        tenant, {.id = id, .previous = previous, .input = std::move(input), .response = response},
        open);
    ASSERT_TRUE(added.ok()) << added;
    clock_.now += absl::Seconds(1);
  }
  static Json Completed() {
    return {{"status", "completed"}, {"output", Json::array({Item("out")})}};
  }
  std::string Conversation(const std::string& id, const std::string& tenant = "red") {
    const auto items = store().Conversation(tenant, id);
    if (!items.ok()) return std::string(items.status().message());
    std::string ids;
    for (const Json& item : *items) absl::StrAppend(&ids, item["id"].get<std::string>(), " ");
    return ids;
  }

  const std::string path_ =
      absl::StrCat(testing::TempDir(), "/responses-", getpid(), "-",
                   testing::UnitTest::GetInstance()->current_test_info()->name(), ".sqlite");
  ResponseBounds bounds_;
  SetClock clock_;
  std::unique_ptr<State> state_;
};

TEST_F(ResponseStoreTest, AConversationIsWhatWasSaidAndAnsweredTheOldestFirst) {
  Add("a");
  Add("b", "a");
  Add("c", "b");
  Add("d", "a");  // another way on from the first
  EXPECT_EQ(Conversation("c"), "in-a out-a in-b out-b in-c out-c ");
  EXPECT_EQ(Conversation("d"), "in-a out-a in-d out-d ");
  Open();
  EXPECT_EQ(Conversation("b"), "in-a out-a in-b out-b ");
}

TEST_F(ResponseStoreTest, AnotherTenantsIsNotFound) {
  Add("a");
  EXPECT_TRUE(absl::IsNotFound(store().Find("blue", "a").status()));
  EXPECT_TRUE(absl::IsNotFound(store().Conversation("blue", "a").status()));
  EXPECT_TRUE(absl::IsNotFound(store().Delete("blue", "a")));
  EXPECT_TRUE(store().Delete("red", "a").ok());
  EXPECT_TRUE(absl::IsNotFound(store().Find("red", "a").status()));
}

TEST_F(ResponseStoreTest, AConversationWhoseBeginningIsGoneIsNotFound) {
  Add("a");
  Add("b", "a");
  ASSERT_TRUE(store().Delete("red", "a").ok());
  EXPECT_TRUE(absl::IsNotFound(store().Conversation("red", "b").status()));
}

TEST_F(ResponseStoreTest, TheOldestMakeRoomAndTheNewestStays) {
  bounds_.tenant_responses_max = 3;
  Open();
  for (const char* id : {"a", "b", "c", "d", "e"}) Add(id);
  Add("other", "", false, "blue");
  EXPECT_FALSE(store().Find("red", "a").ok());
  EXPECT_FALSE(store().Find("red", "b").ok());
  for (const char* id : {"c", "d", "e"}) EXPECT_TRUE(store().Find("red", id).ok()) << id;
  EXPECT_TRUE(store().Find("blue", "other").ok());
  bounds_.tenant_bytes_max = 1;
  Open();
  Add("f");
  EXPECT_TRUE(store().Find("red", "f").ok());
  EXPECT_FALSE(store().Find("red", "e").ok());
}

TEST_F(ResponseStoreTest, WhatWasOpenWhenTheProcessEndedHasFailed) {
  Add("a", "", true);
  Add("b");
  Open();
  const auto failed = store().Find("red", "a");
  EXPECT_EQ(failed->response["status"], "failed");
  EXPECT_EQ(failed->response["error"]["code"], "server_error");
  EXPECT_EQ(store().Find("red", "b")->response["status"], "completed");
}

TEST_F(ResponseStoreTest, AnEndIsTakenOnce) {
  Add("a", "", true);
  ASSERT_TRUE(store().End("a", {{"status", "cancelled"}}).ok());
  ASSERT_TRUE(store().End("a", {{"status", "completed"}}).ok());
  EXPECT_EQ(store().Find("red", "a")->response["status"], "cancelled");
}

TEST_F(ResponseStoreTest, AnEndThatCannotBeWrittenIsShownAndWrittenOnceThereIsRoom) {
  Add("a", "", true);
  std::optional<FullDisk> full(std::in_place);
  EXPECT_TRUE(absl::IsUnavailable(store().End("a", Completed())));
  EXPECT_TRUE(store().End("a", {{"status", "cancelled"}}).ok()) << "it has its end";
  EXPECT_EQ(store().Find("red", "a")->response["status"], "completed");
  EXPECT_TRUE(absl::IsUnavailable(store().Conversation("red", "a").status()));
  EXPECT_TRUE(absl::IsUnavailable(store().WriteEnds()));
  EXPECT_TRUE(store().has_unwritten());
  full.reset();
  EXPECT_TRUE(store().WriteEnds().ok());
  EXPECT_FALSE(store().has_unwritten());
  EXPECT_EQ(Conversation("a"), "in-a out ");
  Open();
  EXPECT_EQ(store().Find("red", "a")->response["status"], "completed");
}

TEST_F(ResponseStoreTest, AnEndThatWasNotWrittenHasFailedInTheNextProcess) {
  Add("a", "", true);
  {
    const FullDisk full;
    EXPECT_FALSE(store().End("a", Completed()).ok());
  }
  Open();
  EXPECT_EQ(store().Find("red", "a")->response["status"], "failed");
}

TEST_F(ResponseStoreTest, EndsInMemoryAreBoundedAndThoseBeyondHaveFailed) {
  bounds_.unwritten_bytes_max = DumpJson(Completed()).size();
  Open();
  Add("a", "", true);
  Add("b", "", true);
  Add("c", "", true);
  {
    const FullDisk full;
    for (const char* id : {"a", "b", "c"}) EXPECT_FALSE(store().End(id, Completed()).ok());
  }
  ASSERT_TRUE(store().Delete("red", "c").ok());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(store().Find("red", "a")->response["status"], "completed");
    EXPECT_EQ(store().Find("red", "b")->response["status"], "failed");
    EXPECT_TRUE(store().WriteEnds().ok());
    EXPECT_FALSE(store().has_unwritten());
  }
}

TEST_F(ResponseStoreTest, AfterSomeTimeAResponseIsDeleted) {
  Add("a");
  clock_.now += absl::Hours(24 * 29);
  ASSERT_TRUE(store().DeleteExpired().ok());
  EXPECT_TRUE(store().Find("red", "a").ok());
  clock_.now += absl::Hours(24 * 2);
  ASSERT_TRUE(store().DeleteExpired().ok());
  EXPECT_FALSE(store().Find("red", "a").ok());
}

TEST_F(ResponseStoreTest, AConversationIsBounded) {
  bounds_.chain_max = 2;
  Open();
  Add("a");
  Add("b", "a");
  Add("c", "b");
  EXPECT_TRUE(store().Conversation("red", "b").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(store().Conversation("red", "c").status()));
}

}  // namespace
}  // namespace holdfast
