// Files over gRPC: in pieces, within bounds, and nothing held for who does not take or send them.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "holdfast/v1/batches.grpc.pb.h"
#include "server/grpc_batch_codec.h"
#include "tests/unit/server/grpc_batches_fixture.h"
#include "tests/unit/server/grpc_untaken_call.h"

namespace holdfast {
namespace {

using grpc::StatusCode;
using testing::StartsWith;

using GrpcFilesTest = GrpcBatchesFixture;

TEST_F(GrpcFilesTest, AFileGoesUpInPiecesAndComesDownInPieces) {
  Begin();
  std::string content;
  for (int i = 0; content.size() < (2 << 20) + 5; ++i) content += static_cast<char>(i * i % 251);
  v1::UploadFileRequest info = Info(static_cast<int64_t>(content.size()));
  info.mutable_info()->set_expires_after_seconds(3600);
  Call call;
  v1::File file;
  const grpc::Status status = Upload(
      call, {info, Content(content.substr(0, 7)), Content(""), Content(content.substr(7))}, file);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(file.id(), StartsWith("file-"));
  EXPECT_EQ(file.filename(), "in.jsonl");
  EXPECT_EQ(file.purpose(), "batch");
  EXPECT_EQ(file.bytes(), static_cast<int64_t>(content.size()));
  EXPECT_EQ(file.expires_unix(), file.created_unix() + 3600);
  const std::vector<std::string> pieces = Downloaded(file.id());
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].size(), size_t{1} << 20);
  EXPECT_TRUE(absl::StrCat(pieces[0], pieces[1], pieces[2]) == content);
  EXPECT_TRUE(Downloaded(Uploaded("")).empty());
}

TEST_F(GrpcFilesTest, AnUploadThatIsNotAsItsInfoSaysIsNotKept) {
  Begin({.files = {.file_bytes_max = 100}});
  const auto refused = [this](const std::vector<v1::UploadFileRequest>& parts) {
    Call call;
    v1::File file;
    const grpc::Status status = Upload(call, parts, file);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
    return call.param();
  };
  EXPECT_EQ(refused({Info(3), Content("ab")}), "info.bytes");
  EXPECT_EQ(refused({Info(3), Content("ab"), Content("cd")}), "info.bytes");
  EXPECT_EQ(refused({Info(101)}), "info.bytes");
  EXPECT_EQ(refused({Info(-1)}), "info.bytes");
  EXPECT_EQ(refused({}), "info");
  EXPECT_EQ(refused({Content("ab")}), "info");
  EXPECT_EQ(refused({v1::UploadFileRequest()}), "info");
  EXPECT_EQ(refused({Info(2), Info(2), Content("ab")}), "info");
  const auto with = [](const std::function<void(v1::FileInfo&)>& change) {
    v1::UploadFileRequest info = Info(0);
    change(*info.mutable_info());
    return std::vector{info};
  };
  EXPECT_EQ(refused(with([](auto& info) { info.clear_bytes(); })), "info.bytes");
  EXPECT_EQ(refused(with([](auto& info) { info.set_purpose("fine-tune"); })), "info.purpose");
  EXPECT_EQ(refused(with([](auto& info) { info.clear_purpose(); })), "info.purpose");
  EXPECT_EQ(refused(with([](auto& info) { info.set_filename(std::string(513, 'x')); })),
            "info.filename");
  for (const int64_t seconds : {int64_t{-1}, int64_t{3599}, int64_t{2592001}}) {
    EXPECT_EQ(refused(with([=](auto& info) { info.set_expires_after_seconds(seconds); })),
              "info.expires_after_seconds");
  }
  EXPECT_EQ(FilesKept(), 0);
  Uploaded(std::string(100, 'x'));
  EXPECT_EQ(FilesKept(), 1);
}

TEST_F(GrpcFilesTest, OfAnUploadThatIsCutNothingIsKept) {
  Begin();
  Call call;
  v1::File file;
  auto writer = stub_->UploadFile(&call.context, &file);
  ASSERT_TRUE(writer->Write(Info(3)));
  ASSERT_TRUE(writer->Write(Content("ab")));
  call.context.TryCancel();
  EXPECT_EQ(writer->Finish().error_code(), StatusCode::CANCELLED);
  server_->Shutdown(absl::InfiniteFuture());
  EXPECT_EQ(FilesKept(), 0);
}

TEST_F(GrpcFilesTest, AnUploadThatStallsIsEnded) {
  Begin({.files = {.part_timeout = absl::Milliseconds(50)}});
  Call call;
  v1::File file;
  auto writer = stub_->UploadFile(&call.context, &file);
  ASSERT_TRUE(writer->Write(Info(3)));
  ASSERT_TRUE(writer->Write(Content("ab")));
  const grpc::Status status = writer->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::DEADLINE_EXCEEDED) << status.error_message();
  EXPECT_EQ(FilesKept(), 0);
}

TEST_F(GrpcFilesTest, ADownloadThatIsNotReadIsEndedAndItsRoomGivenBack) {
  Begin({.files = {.part_timeout = absl::Milliseconds(200)}});
  v1::DownloadFileRequest request;
  request.set_id(Kept(40 << 20));
  std::vector<std::shared_ptr<const void>> leases;
  for (int i = 0; i < kTenantFilesAtOnceMax - 1; ++i) {
    leases.push_back(*background_->file_leases().Lease(TenantIndex{1}));
  }
  Call call;
  auto reader = stub_->DownloadFile(&call.context, request);
  v1::FileContent piece;
  ASSERT_TRUE(reader->Read(&piece));
  EXPECT_TRUE(Comes([&] { return background_->file_leases().Lease(TenantIndex{1}).ok(); }));
  int pieces = 1;
  while (reader->Read(&piece)) ++pieces;
  EXPECT_LT(pieces, 40);
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
}

TEST_F(GrpcFilesTest, AFileIsForgottenBeforeItsClientTakesTheAnswer) {
  constexpr size_t kBytes = 40 << 20;
  const auto held = [] { return mallinfo2().hblkhd; };  // of blocks as large as the file
  if (const std::string block(kBytes, 'x'); held() < block.size()) {
    GTEST_SKIP() << "this malloc does not say what it holds";
  }
  Begin();
  const size_t before = held();
  UntakenCall call(server_->port(), "Batches/UploadFile", Info(kBytes));
  for (int i = 0; i < 20; ++i) call.Send(Content(std::string(kBytes / 20, 'x')));
  EXPECT_TRUE(Comes([&] { return held() >= before + kBytes; }));
  call.EndSending();
  EXPECT_TRUE(Comes([this] { return FilesKept() == 1; }));
  EXPECT_TRUE(Comes([&] { return held() < before + kBytes; }));
}

TEST_F(GrpcFilesTest, ACallWhoseClientDoesNotTakeItsAnswerIsEnded) {
  Begin({.write_timeout = absl::Milliseconds(200)});
  UntakenCall list(server_->port(), "Batches/ListFiles", v1::ListFilesRequest());
  UntakenCall upload(server_->port(), "Batches/UploadFile", Info(0));
  for (UntakenCall* const call : {&list, &upload}) {
    call->EndSending();
    call->AwaitAnswer();
  }
  EXPECT_EQ(FilesKept(), 1);
  const absl::Time deadline = absl::Now() + kPatience;
  server_->Shutdown(deadline);
  EXPECT_LT(absl::Now(), deadline) << "calls are left";
}

TEST_F(GrpcFilesTest, ATenantMovesABoundedNumberOfFilesAndLeavesRoomForOthers) {
  Begin();
  std::vector<std::shared_ptr<const void>> leases;
  for (int i = 0; i < kTenantFilesAtOnceMax; ++i) {
    leases.push_back(*background_->file_leases().Lease(TenantIndex{1}));
  }
  Call call;
  v1::File file;
  EXPECT_EQ(Upload(call, {Info(0)}, file).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(call.Trailer("holdfast-error-code"), "overloaded");
  EXPECT_EQ(call.Trailer("retry-after"), "1");
  Uploaded("x", "other");
  leases.pop_back();
  Uploaded("x");
  for (int i = 0; i < kFilesAtOnceMax - kTenantFilesAtOnceMax + 1; ++i) {
    leases.push_back(*background_->file_leases().Lease(TenantIndex{i == 0 ? 1 : 2}));
  }
  EXPECT_FALSE(background_->file_leases().Lease(TenantIndex{0}).ok()) << "all are taken";
}

TEST_F(GrpcFilesTest, FilesAreListedInPagesAndDeleted) {
  Begin();
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(Uploaded("x"));
  v1::ListFilesRequest request;
  request.mutable_page()->set_limit(2);
  request.mutable_page()->set_oldest_first(true);
  std::vector<std::string> listed;
  for (bool more = true; more;) {
    Call call;
    v1::ListFilesResponse response;
    ASSERT_TRUE(stub_->ListFiles(&call.context, request, &response).ok());
    for (const v1::File& file : response.files()) listed.push_back(file.id());
    ASSERT_FALSE(listed.empty());
    request.mutable_page()->set_after(listed.back());
    more = response.has_more();
  }
  EXPECT_THAT(listed, testing::UnorderedElementsAreArray(ids));
  for (const int limit : {0, -1, 1001}) {
    Call call;
    v1::ListFilesResponse response;
    request.mutable_page()->set_limit(limit);
    EXPECT_EQ(stub_->ListFiles(&call.context, request, &response).error_code(),
              StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(call.param(), "page.limit");
  }
  for (const auto wanted : {StatusCode::OK, StatusCode::NOT_FOUND}) {
    Call call;
    v1::DeleteFileRequest gone;
    gone.set_id(ids[0]);
    v1::DeleteFileResponse response;
    EXPECT_EQ(stub_->DeleteFile(&call.context, gone, &response).error_code(), wanted);
  }
}

TEST_F(GrpcFilesTest, ShutdownEndsAnUploadThatIsOnItsWay) {
  Begin();
  Call call;
  v1::File file;
  auto writer = stub_->UploadFile(&call.context, &file);
  ASSERT_TRUE(writer->Write(Info(3)));
  server_->Shutdown(absl::InfinitePast());
  EXPECT_FALSE(writer->Finish().ok());
  EXPECT_EQ(FilesKept(), 0);
}

TEST(GrpcBatchCodecTest, AFilesNameThatIsNotUtf8IsShownAsFarAsItIs) {
  v1::File file;
  SetFile({.name = "a\xff"
                   "b"},
          file);
  EXPECT_EQ(file.filename(),
            "a\xef\xbf\xbd"
            "b");
}

}  // namespace
}  // namespace holdfast
