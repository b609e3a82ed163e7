// The prompts of one body: admitted all or none, ended together until then, counted once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "config/limits.h"
#include "tests/unit/server/generation_bench.h"
#include "tests/unit/server/stream_reader.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class PromptGroupTest : public GenerationBench {
 protected:
  std::vector<GenerationRequest> Prompts(const std::vector<std::string>& texts) {
    std::vector<GenerationRequest> requests;
    for (const std::string& text : texts) {
      requests.push_back(Ask(text));
      requests.back().wire_id = absl::StrCat("id-", requests.size());
    }
    return requests;
  }
  void ExpectAllEnd(std::vector<std::shared_ptr<GenerationStream>>& streams,
                    absl::StatusCode code) {
    for (auto& stream : streams) EXPECT_EQ(ReadToEnd(*stream).done.status.code(), code);
    EXPECT_EQ(service_->running(), 0);
  }
  // Of all requests that ended: `count`, all of them with `outcome`.
  void ExpectCounted(const std::string& outcome, int count) {
    int64_t counted = 0;
    for (const char* other :
         {"ok", "invalid", "shed", "unavailable", "timeout", "cancelled", "error"}) {
      const std::string series = absl::StrCat(
          "holdfast_server_requests_total{model=\"tiny\",outcome=\"", other, "\",tenant=\"red\"} ");
      const int expected = other == outcome ? count : 0;
      EXPECT_THAT(metrics_.Serialize(), HasSubstr(absl::StrCat(series, expected, "\n")));
      ++counted;
    }
    EXPECT_EQ(counted, 7);
  }
};

TEST_F(PromptGroupTest, GoesToTheSchedulerAsOneInItsOrder) {
  auto streams = service_->StartAll(Prompts({"A", "B", "C"}));
  std::vector<Request> requests;
  for (int i = 0; i < 3; ++i) requests.push_back(scheduler_.WaitRequest());
  EXPECT_EQ(scheduler_.num_submissions, 1);
  EXPECT_THAT(requests[0].prompt, ElementsAre('A'));
  EXPECT_THAT(requests[1].prompt, ElementsAre('B'));
  EXPECT_THAT(requests[2].prompt, ElementsAre('C'));
  for (const Request& request : requests) {
    service_->OnPrompt({.request = request.id});
    Say(request, "x", 0, SequenceEnd::kLength);
    Done(request);
  }
  ExpectAllEnd(streams, absl::StatusCode::kOk);
  ExpectCounted("ok", 1);
}

TEST_F(PromptGroupTest, AFullQueueShedsAllAndCountsOnce) {
  scheduler_.Answer(Admit::kShed);
  auto streams = service_->StartAll(Prompts({"A", "B", "C"}));
  ExpectAllEnd(streams, absl::StatusCode::kResourceExhausted);
  ExpectCounted("shed", 1);
  // Later, by the scheduler itself.
  scheduler_.Answer(Admit::kAccepted);
  streams = service_->StartAll(Prompts({"A", "B"}));
  for (int i = 0; i < 2; ++i) Done(scheduler_.WaitRequest(), absl::ResourceExhaustedError("full"));
  ExpectAllEnd(streams, absl::StatusCode::kResourceExhausted);
  ExpectCounted("shed", 2);
}

TEST_F(PromptGroupTest, MorePromptsThanCanEverBeAdmittedAreAFaultOfTheRequest) {
  scheduler_.at_once_max = 2;
  auto streams = service_->StartAll(Prompts({"A", "B", "C"}));
  const absl::Status status = ReadToEnd(*streams[0]).done.status;
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.GetPayload(kErrorParamUrl), "prompt");
  EXPECT_THAT(std::string(status.message()), HasSubstr("3 prompts; at most 2"));
  EXPECT_EQ(scheduler_.num_submissions, 0);
  ExpectCounted("invalid", 1);
  auto fits = service_->StartAll(Prompts({"A", "B"}));
  for (int i = 0; i < 2; ++i) scheduler_.WaitRequest();
}

TEST_F(PromptGroupTest, OneThatIsRefusedTakesTheOthersAlong) {
  auto streams = service_->StartAll(Prompts({"A", std::string(kContext, 'x'), "C"}));
  ExpectAllEnd(streams, absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(scheduler_.num_submissions, 0);
  EXPECT_EQ(scheduler_.num_cancelled(), 0u);
  ExpectCounted("invalid", 1);
}

TEST_F(PromptGroupTest, OneThatIsCancelledBeforeItIsAdmittedTakesTheOthersAlong) {
  const auto go_on = HoldPromptWorkers();
  auto streams = service_->StartAll(Prompts({"A", "B"}));
  streams[1]->Cancel();
  go_on->Notify();
  ExpectAllEnd(streams, absl::StatusCode::kCancelled);
  EXPECT_EQ(scheduler_.num_submissions, 0);
  ExpectCounted("cancelled", 1);
}

TEST_F(PromptGroupTest, AfterAdmissionEachEndsForItself) {
  auto streams = service_->StartAll(Prompts({"A", "B"}));
  const Request first = scheduler_.WaitRequest();
  const Request second = scheduler_.WaitRequest();
  streams[0]->Cancel();
  scheduler_.WaitCancel(first.id);
  Done(first, absl::CancelledError(""));
  service_->OnPrompt({.request = second.id});
  Say(second, "x", 0, SequenceEnd::kLength);
  Done(second);
  EXPECT_TRUE(ReadToEnd(*streams[1]).done.status.ok());
  ExpectCounted("cancelled", 1);
}

TEST_F(PromptGroupTest, TheTextOfAllPromptsTogetherIsBounded) {
  std::vector<std::string> texts(5, std::string(kBodyTextBytesMax / 5, 'x'));
  texts.back() += "more than it";
  auto streams = service_->StartAll(Prompts(texts));
  const absl::Status status = ReadToEnd(*streams[0]).done.status;
  EXPECT_EQ(status.GetPayload(kErrorCodeUrl), "string_above_max_length");
  EXPECT_EQ(status.GetPayload(kErrorParamUrl), "prompt");
  ExpectCounted("invalid", 1);
}

// Work for a client that has left is dropped where it waits.
TEST_F(PromptGroupTest, AWaitingTextWhoseCallerHasGoneIsNotWorkedOn) {
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  absl::Notification told;
  const auto go_on = HoldPromptWorkers();
  absl::Status status;
  service_->Tokenize({.gone = gone}, "x", true, [&](auto tokens) {
    status = tokens.status();
    told.Notify();
  });
  gone->store(true);
  go_on->Notify();
  told.WaitForNotification();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace holdfast
