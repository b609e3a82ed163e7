// Batches over gRPC: that one is the same whichever wire asks of it, and who sees and may ask what.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "holdfast/v1/batches.grpc.pb.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "tests/unit/server/grpc_batches_fixture.h"

namespace holdfast {
namespace {

using grpc::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;

using GrpcBatchesTest = GrpcBatchesFixture;

TEST_F(GrpcBatchesTest, ABatchIsMadeRunAndItsAnswersRead) {
  service_.on_start = [](const GenerationRequest& request, FakeStream& stream) {
    stream.PushText(absl::StrCat("to ", std::get<std::string>(request.prompt)));
    stream.PushEnd();
  };
  Begin();
  std::string lines;
  for (const char* more : {"", R"(, "temperature": 9)"}) {
    absl::StrAppend(&lines, R"({"custom_id": "id)", more[0] == 0 ? "good" : "bad",
                    R"(", "method": "POST", "url": "/v1/completions", "body": {"prompt": "p")",
                    more, "}}\n");
  }
  v1::CreateBatchRequest wish = Wish(Uploaded(lines));
  (*wish.mutable_metadata())["job"] = "night";
  wish.mutable_output_expires_after()->set_seconds(3600);
  const v1::Batch made = Created(wish);
  EXPECT_EQ(made.status(), v1::BATCH_STATUS_VALIDATING);
  EXPECT_EQ(made.input_file_id(), wish.input_file_id());
  const v1::Batch batch = CameTo(made.id(), v1::BATCH_STATUS_COMPLETED);
  EXPECT_EQ(batch.endpoint(), "/v1/completions");
  EXPECT_EQ(batch.total(), 2);
  EXPECT_EQ(batch.completed(), 1);
  EXPECT_EQ(batch.failed(), 1);
  EXPECT_THAT(batch.metadata(), UnorderedElementsAre(Pair("job", "night")));
  EXPECT_EQ(batch.expires_unix(), batch.created_unix() + 24 * 3600);
  EXPECT_GE(batch.in_progress_unix(), batch.created_unix());
  EXPECT_GE(batch.completed_unix(), batch.finalizing_unix());
  EXPECT_FALSE(batch.has_failed_unix() || batch.has_expired_unix() || batch.has_cancelled_unix());
  ASSERT_THAT(Downloaded(batch.output_file_id()), ElementsAre(HasSubstr("to p")));
  ASSERT_THAT(Downloaded(batch.error_file_id()), ElementsAre(HasSubstr("temperature")));
  EXPECT_EQ(service_.request(0).tenant, TenantIndex{1});
  EXPECT_TRUE(service_.request(0).offline);
  Call call;
  v1::ListBatchesResponse listed;
  ASSERT_TRUE(stub_->ListBatches(&call.context, v1::ListBatchesRequest(), &listed).ok());
  ASSERT_EQ(listed.batches_size(), 1);
  EXPECT_EQ(listed.batches(0).SerializeAsString(), batch.SerializeAsString());
  EXPECT_FALSE(listed.has_more());
}

TEST_F(GrpcBatchesTest, AnInputThatIsWrongFailsAndSaysWhere) {
  Begin();
  const v1::Batch batch = CameTo(Created(Wish(Uploaded("\n{}\n"))).id(), v1::BATCH_STATUS_FAILED);
  ASSERT_EQ(batch.faults_size(), 1);
  EXPECT_EQ(batch.faults(0).code(), "missing_required_parameter");
  EXPECT_EQ(batch.faults(0).param(), "custom_id");
  EXPECT_EQ(batch.faults(0).line(), 2);
  EXPECT_TRUE(batch.has_failed_unix());
}

TEST_F(GrpcBatchesTest, ABatchIsCancelled) {
  Begin();
  const std::string line =
      R"({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "p"}})";
  v1::CancelBatchRequest request;
  request.set_id(Created(Wish(Uploaded(line))).id());
  const auto running = service_.stream(0);
  Call call;
  v1::Batch batch;
  ASSERT_TRUE(stub_->CancelBatch(&call.context, request, &batch).ok());
  EXPECT_EQ(batch.status(), v1::BATCH_STATUS_CANCELLING);
  EXPECT_TRUE(running->cancelled.WaitForNotificationWithTimeout(kPatience));
  CameTo(request.id(), v1::BATCH_STATUS_CANCELLED);
  Call again;
  EXPECT_EQ(stub_->CancelBatch(&again.context, request, &batch).error_code(),
            StatusCode::FAILED_PRECONDITION);
}

TEST_F(GrpcBatchesTest, ABatchThatIsWrongIsRefusedByTheNameOfItsField) {
  Begin();
  const std::string file = Uploaded("x");
  const auto refused = [&](const std::function<void(v1::CreateBatchRequest&)>& change) {
    v1::CreateBatchRequest wish = Wish(file);
    change(wish);
    Call call;
    v1::Batch batch;
    EXPECT_FALSE(stub_->CreateBatch(&call.context, wish, &batch).ok());
    return call.param();
  };
  EXPECT_EQ(refused([](auto& wish) { wish.clear_input_file_id(); }), "input_file_id");
  EXPECT_EQ(refused([](auto& wish) { wish.set_input_file_id("file-none"); }), "input_file_id");
  EXPECT_EQ(refused([](auto& wish) { wish.clear_endpoint(); }), "endpoint");
  EXPECT_EQ(refused([](auto& wish) { wish.set_endpoint("/v1/responses"); }), "endpoint");
  EXPECT_EQ(refused([](auto& wish) { wish.set_completion_window("1h"); }), "completion_window");
  EXPECT_EQ(refused([](auto& wish) { wish.mutable_output_expires_after(); }),
            "output_expires_after.seconds");
  EXPECT_EQ(refused([](auto& wish) { (*wish.mutable_metadata())["a"] = std::string(513, 'x'); }),
            "metadata");
  EXPECT_EQ(refused([](auto& wish) {
              for (int i = 0; i < 100'000; ++i) (*wish.mutable_metadata())[absl::StrCat(i)] = "";
            }),
            "metadata");
}

TEST_F(GrpcBatchesTest, ABatchThatIsWrongIsRefusedBeforeItWaits) {
  Begin();
  absl::Notification refused;
  ASSERT_TRUE(background_->Ask([&](State&) { refused.WaitForNotification(); }));
  Call call;
  v1::CreateBatchRequest wish = Wish("file-a");
  (*wish.mutable_metadata())["a"] = std::string(1 << 20, 'x');
  call.context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
  v1::Batch batch;
  EXPECT_EQ(stub_->CreateBatch(&call.context, wish, &batch).error_code(),
            StatusCode::INVALID_ARGUMENT);
  refused.Notify();
  EXPECT_EQ(FilesKept(), 0);  // behind the one that waited, which looks at `refused`
}

TEST_F(GrpcBatchesTest, OneTenantDoesNotSeeTheFilesAndBatchesOfAnother) {
  Begin();
  const std::string file = Uploaded("x");
  const std::string batch = Created(Wish(file)).id();
  for (const grpc::Status& status : CallAll("other", file, batch)) {
    EXPECT_EQ(status.error_code(), StatusCode::NOT_FOUND) << status.error_message();
  }
  for (const auto& [key, count] : {std::pair("k1", 1), {"other", 0}}) {
    Call files_call(key), batches_call(key);
    v1::ListFilesResponse files;
    v1::ListBatchesResponse batches;
    ASSERT_TRUE(stub_->ListFiles(&files_call.context, v1::ListFilesRequest(), &files).ok());
    ASSERT_TRUE(stub_->ListBatches(&batches_call.context, v1::ListBatchesRequest(), &batches).ok());
    EXPECT_EQ(files.files_size(), count);
    EXPECT_EQ(batches.batches_size(), count);
  }
}

TEST_F(GrpcBatchesTest, WithoutAKeyOrWithoutAStateEveryCallIsRefused) {
  BeginServer({});
  for (const auto& [key, wanted] :
       {std::pair("wrong", StatusCode::UNAUTHENTICATED), {"k1", StatusCode::UNIMPLEMENTED}}) {
    std::vector<grpc::Status> statuses = CallAll(key, "file-a", "batch_a");
    Call files_call(key), batches_call(key), upload_call(key);
    v1::ListFilesResponse files;
    v1::ListBatchesResponse batches;
    v1::File file;
    statuses.push_back(stub_->ListFiles(&files_call.context, v1::ListFilesRequest(), &files));
    statuses.push_back(
        stub_->ListBatches(&batches_call.context, v1::ListBatchesRequest(), &batches));
    statuses.push_back(Upload(upload_call, {Info(1), Content("x")}, file));
    for (const grpc::Status& status : statuses) EXPECT_EQ(status.error_code(), wanted);
    if (wanted == StatusCode::UNIMPLEMENTED) {
      EXPECT_EQ(upload_call.Trailer("holdfast-error-code"), "batches_off");
      EXPECT_THAT(statuses[0].error_message(), HasSubstr("state.path"));
    }
  }
}

TEST_F(GrpcBatchesTest, CallsCountBesideThoseThatGenerate) {
  Begin({.calls_max = 1});
  auto generation = v1::Generation::NewStub(channel_);
  v1::CompleteRequest request;
  request.set_prompt("a");
  Call running;
  auto reader = generation->CompleteStream(&running.context, request);
  const auto stream = service_.stream(0);
  for (const grpc::Status& status : CallAll("k1", "file-a", "batch_a")) {
    EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  }
  stream->PushEnd();
  v1::CompleteChunk chunk;
  while (reader->Read(&chunk)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

}  // namespace
}  // namespace holdfast
