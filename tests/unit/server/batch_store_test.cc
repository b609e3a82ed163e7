#include "server/batch_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/state.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class SetClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1'000'000);
};

std::string Line(const std::string& id, const std::string& url = "/v1/completions") {
  return absl::StrCat(R"({"custom_id": ")", id, R"(", "method": "POST", "url": ")", url,
                      R"(", "body": {"prompt": "a"}})", "\n");
}

class BatchStoreTest : public testing::Test {
 protected:
  BatchStoreTest() { std::filesystem::remove_all(path_), Open(); }
  ~BatchStoreTest() override {
    state_.reset();
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + end);
  }
  void Open() {
    state_.reset();
    auto state = State::Open(path_, {.batches = bounds_}, clock_);
    ASSERT_TRUE(state.ok()) << state.status();
    state_ = *std::move(state);
    store_ = &state_->batches();
  }
  std::string AddFile(const std::string& content, const std::string& tenant = "red") {
    const auto file = store_->AddFile(tenant, "in.jsonl", "batch", content, std::nullopt);
    EXPECT_TRUE(file.ok()) << file.status();
    return file->id;
  }
  Batch AddBatch(const std::string& content) {
    const auto batch =
        store_->AddBatch("red", {.endpoint = "/v1/completions", .input_file = AddFile(content)});
    EXPECT_TRUE(batch.ok()) << batch.status();
    return *batch;
  }
  Batch Running(int lines) {
    std::string content;
    for (int i = 0; i < lines; ++i) content += Line(absl::StrCat("id", i));
    const auto batch = store_->Validate(AddBatch(content));
    EXPECT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->status, BatchStatus::kInProgress);
    return *batch;
  }
  std::string Content(const std::optional<std::string>& file) {
    if (!file.has_value()) return "none";
    return store_->FileContent("red", *file).value_or("not there");
  }

  const std::string path_ =
      absl::StrCat(testing::TempDir(), "/batches-", getpid(), "-",
                   testing::UnitTest::GetInstance()->current_test_info()->name(), ".sqlite");
  BatchBounds bounds_;
  SetClock clock_;
  std::unique_ptr<State> state_;
  BatchStore* store_ = nullptr;
};

TEST_F(BatchStoreTest, AFileIsFoundByItsTenantAloneUntilItExpires) {
  const auto file = store_->AddFile("red", "a", "batch", std::string("x\0y", 3), 3600);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(store_->FileContent("red", file->id).value(), std::string("x\0y", 3));
  EXPECT_TRUE(absl::IsNotFound(store_->FindFile("blue", file->id).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->DeleteFile("blue", file->id)));
  clock_.now += absl::Hours(1);
  EXPECT_TRUE(absl::IsNotFound(store_->FindFile("red", file->id).status()));
  EXPECT_TRUE(store_->DeleteExpired().ok());
  EXPECT_THAT(store_->ListFiles("red", "", {})->entries, IsEmpty());
}

TEST_F(BatchStoreTest, TheFileOfTheDatabaseIsReadableByItsOwnerAlone) {
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(BatchStoreTest, ASecondProcessIsRefused) {
  const auto second = State::Open(path_, {.batches = bounds_}, clock_);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("in use"));
}

TEST_F(BatchStoreTest, AFileThatIsNoDatabaseIsRefusedByName) {
  const std::string path = path_ + ".text";
  { std::ofstream(path) << std::string(4096, 'x'); }
  const auto opened = State::Open(path, {.batches = bounds_}, clock_);
  EXPECT_FALSE(opened.ok());
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr(path));
  std::filesystem::remove(path);
}

TEST_F(BatchStoreTest, ATenantsRoomIsBounded) {
  bounds_ = {.tenant_bytes_max = 10, .tenant_files_max = 3};
  Open();
  AddFile("123456");
  EXPECT_TRUE(absl::IsResourceExhausted(
      store_->AddFile("red", "a", "batch", "12345", std::nullopt).status()));
  AddFile("12345", "blue");
  AddFile("1234");
  AddFile("");
  EXPECT_TRUE(
      absl::IsResourceExhausted(store_->AddFile("red", "a", "batch", "", std::nullopt).status()));
}

TEST_F(BatchStoreTest, PagesGoOnBehindTheLastEntryInEitherOrder) {
  std::vector<std::string> made;
  for (int i = 0; i < 7; ++i) {
    made.push_back(AddFile("x"));
    clock_.now += absl::Seconds(i % 2);  // some at the same second
  }
  AddFile("x", "blue");
  for (const bool oldest_first : {true, false}) {
    std::vector<std::string> seen;
    ListWish wish{.limit = 2, .oldest_first = oldest_first};
    while (true) {
      const auto page = store_->ListFiles("red", "", wish);
      ASSERT_TRUE(page.ok()) << page.status();
      for (const StoredFile& file : page->entries) seen.push_back(file.id);
      if (!page->has_more) break;
      ASSERT_EQ(page->entries.size(), 2u);
      wish.after = seen.back();
    }
    EXPECT_THAT(seen, testing::UnorderedElementsAreArray(made));
    std::vector<int64_t> times;
    for (const std::string& id : seen) times.push_back(store_->FindFile("red", id)->created_unix);
    EXPECT_TRUE(oldest_first ? std::is_sorted(times.begin(), times.end())
                             : std::is_sorted(times.rbegin(), times.rend()));
  }
}

TEST_F(BatchStoreTest, LinesStayOpenUntilAnsweredOverARestart) {
  const Batch batch = Running(3);
  ASSERT_TRUE(store_->KeepAnswers({{batch.id, 2, "two", false}}).ok());
  Open();
  const auto unfinished = store_->UnfinishedBatches();
  ASSERT_EQ(unfinished->size(), 1u);
  EXPECT_EQ(unfinished->front().completed, 1);
  const auto open = store_->OpenLines(batch.id, 0, 10);
  ASSERT_EQ(open->size(), 2u);
  EXPECT_EQ((*open)[0].line, 1);
  EXPECT_EQ((*open)[1].custom_id, "id2");
  EXPECT_EQ((*open)[1].body, R"({"prompt":"a"})");
}

TEST_F(BatchStoreTest, ALineHasOneAnswerHoweverOftenItIsGiven) {
  const Batch batch = Running(2);
  ASSERT_TRUE(store_->KeepAnswers({{batch.id, 1, "first", false}}).ok());
  ASSERT_TRUE(store_->KeepAnswers({{batch.id, 1, "again", true}, {batch.id, 2, "no", true}}).ok());
  const auto done = store_->Finish(*store_->FindBatch("red", batch.id));
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->status, BatchStatus::kCompleted);
  EXPECT_EQ(done->completed, 1);
  EXPECT_EQ(done->failed, 1);
  EXPECT_EQ(Content(done->output_file), "first\n");
  EXPECT_EQ(Content(done->error_file), "no\n");
  EXPECT_THAT(*store_->UnfinishedBatches(), IsEmpty());
}

TEST_F(BatchStoreTest, WhatIsOpenWhenABatchExpiresIsToldAsAnError) {
  const Batch batch = Running(2);
  ASSERT_TRUE(store_->KeepAnswers({{batch.id, 1, "one", false}}).ok());
  clock_.now += absl::Hours(25);
  const auto done = store_->Finish(*store_->FindBatch("red", batch.id));
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->status, BatchStatus::kExpired);
  EXPECT_EQ(Content(done->output_file), "one\n");
  EXPECT_THAT(Content(done->error_file), HasSubstr("batch_expired"));
  EXPECT_EQ(done->failed, 1);
}

TEST_F(BatchStoreTest, ACancelledBatchKeepsWhatIsAnsweredAndNoMore) {
  const Batch batch = Running(2);
  ASSERT_TRUE(store_->KeepAnswers({{batch.id, 1, "one", false}}).ok());
  const auto cancelling = store_->CancelBatch("red", batch.id);
  ASSERT_EQ(cancelling->status, BatchStatus::kCancelling);
  const auto done = store_->Finish(*cancelling);
  EXPECT_EQ(done->status, BatchStatus::kCancelled);
  EXPECT_EQ(Content(done->output_file), "one\n");
  EXPECT_EQ(done->error_file, std::nullopt);
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->CancelBatch("red", batch.id).status()));
}

TEST_F(BatchStoreTest, AnInputThatIsWrongFailsTheBatchWithEachFaultsLine) {
  const auto failed = store_->Validate(AddBatch(Line("a") + "\n{\n" + Line("a")));
  ASSERT_TRUE(failed.ok()) << failed.status();
  EXPECT_EQ(failed->status, BatchStatus::kFailed);
  ASSERT_EQ(failed->faults.size(), 2u);
  EXPECT_EQ(failed->faults[0].line, 3);
  EXPECT_EQ(failed->faults[1].line, 4);
  EXPECT_EQ(failed->faults[1].code, "duplicate_custom_id");
  EXPECT_THAT(*store_->OpenLines(failed->id, 0, 10), IsEmpty());
}

TEST_F(BatchStoreTest, AnInputThatWasDeletedFailsTheBatch) {
  const Batch batch = AddBatch(Line("a"));
  ASSERT_TRUE(store_->DeleteFile("red", batch.input_file).ok());
  const auto failed = store_->Validate(batch);
  EXPECT_EQ(failed->status, BatchStatus::kFailed);
  EXPECT_EQ(failed->faults[0].code, "input_file_gone");
}

TEST_F(BatchStoreTest, UnfinishedBatchesOfATenantAreBounded) {
  bounds_.tenant_batches_max = 2;
  Open();
  AddBatch(Line("a"));
  const Batch second = AddBatch(Line("a"));
  const BatchWish wish{.endpoint = "/v1/completions", .input_file = second.input_file};
  EXPECT_TRUE(absl::IsResourceExhausted(store_->AddBatch("red", wish).status()));
  ASSERT_TRUE(store_->Finish(*store_->CancelBatch("red", second.id)).ok());
  EXPECT_TRUE(store_->AddBatch("red", wish).ok());
}

TEST_F(BatchStoreTest, AnswersThatWouldMakeTheFileTooLargeAreErrors) {
  bounds_.answer_bytes_max = 10'000;
  Open();
  const Batch batch = Running(3);
  const std::string large(6'000, 'x');
  ASSERT_TRUE(store_
                  ->KeepAnswers({{batch.id, 1, large, false},
                                 {batch.id, 2, large, false},
                                 {batch.id, 3, "small", false}})
                  .ok());
  const auto done = store_->Finish(*store_->FindBatch("red", batch.id));
  EXPECT_EQ(Content(done->output_file), large + "\nsmall\n");
  EXPECT_THAT(Content(done->error_file), HasSubstr("output_too_large"));
  EXPECT_EQ(done->failed, 1);
}

TEST_F(BatchStoreTest, OfBatchesAtTheirEndTheOldestMakeRoom) {
  bounds_.tenant_ended_max = 2;
  Open();
  std::vector<std::string> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(store_->Validate(AddBatch("{"))->id);  // failed at once
    clock_.now += absl::Seconds(1);
  }
  AddBatch(Line("a"));
  EXPECT_FALSE(store_->FindBatch("red", ids[0]).ok());
  EXPECT_FALSE(store_->FindBatch("red", ids[1]).ok());
  EXPECT_TRUE(store_->FindBatch("red", ids[2]).ok());
  EXPECT_TRUE(store_->FindBatch("red", ids[3]).ok());
}

TEST_F(BatchStoreTest, ABatchIsForgottenSomeTimeAfterItsEnd) {
  const Batch batch = Running(1);
  ASSERT_TRUE(store_->KeepAnswers({{batch.id, 1, "one", false}}).ok());
  ASSERT_TRUE(store_->Finish(batch).ok());
  clock_.now += absl::Hours(24 * 29);
  ASSERT_TRUE(store_->DeleteExpired().ok());
  EXPECT_TRUE(store_->FindBatch("red", batch.id).ok());
  clock_.now += absl::Hours(24 * 2);
  ASSERT_TRUE(store_->DeleteExpired().ok());
  EXPECT_TRUE(absl::IsNotFound(store_->FindBatch("red", batch.id).status()));
}

// Beside a set of what is open, with a new process at random places.
TEST_F(BatchStoreTest, AnyWalkOfAnswersAndRestartsAnswersEachLineOnce) {
  absl::BitGen random;
  for (int walk = 0; walk < 10; ++walk) {
    const Batch batch = Running(20);
    std::set<int64_t> open;
    for (int64_t line = 1; line <= 20; ++line) open.insert(line);
    while (!open.empty()) {
      std::vector<BatchStore::Answer> answers;
      for (int64_t i = absl::Uniform(random, 0, 4); i >= 0; --i) {
        const auto line = absl::Uniform<int64_t>(random, 1, 21);
        answers.push_back({batch.id, line, absl::StrCat(line), false});
        open.erase(line);
      }
      ASSERT_TRUE(store_->KeepAnswers(answers).ok());
      if (absl::Bernoulli(random, 0.2)) Open();
      std::set<int64_t> left;
      const auto lines = store_->OpenLines(batch.id, 0, 100);
      for (const OpenLine& line : *lines) left.insert(line.line);
      ASSERT_EQ(left, open);
    }
    const auto done = store_->Finish(*store_->FindBatch("red", batch.id));
    std::string wanted;
    for (int line = 1; line <= 20; ++line) absl::StrAppend(&wanted, line, "\n");
    EXPECT_EQ(Content(done->output_file), wanted);
    EXPECT_EQ(done->completed, 20);
  }
}

TEST(BatchInputTest, LinesAndEachFaultAreBounded) {
  std::string content;
  for (int64_t i = 0; i <= kBatchLinesMax; ++i) content += Line(absl::StrCat(i));
  const BatchInput input = ReadBatchInput(content, "/v1/completions");
  ASSERT_EQ(input.faults.size(), 1u);
  EXPECT_EQ(input.faults[0].code, "too_many_lines");
  content.clear();
  for (int i = 0; i < 200; ++i) content += "{\n";
  EXPECT_EQ(ReadBatchInput(content, "/v1/completions").faults.size(), kBatchFaultsMax);
  EXPECT_EQ(ReadBatchInput("\n \r\n", "/v1/completions").faults[0].code, "empty_file");
}

}  // namespace
}  // namespace holdfast
