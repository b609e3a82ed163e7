// The Batches service: files in pieces, bounds, who sees what, and that a batch is the same one
// whichever wire asks of it.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "holdfast/v1/batches.grpc.pb.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "server/background_service.h"
#include "server/grpc_batch_codec.h"
#include "server/grpc_server.h"
#include "tests/unit/server/grpc_untaken_call.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

using grpc::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;
using testing::UnorderedElementsAre;

// One call's context, and what its end says.
struct Call {
  explicit Call(const std::string& key = "k1") {
    if (!key.empty()) context.AddMetadata("x-api-key", key);
  }
  std::string Trailer(const std::string& name) const {
    const auto& trailers = context.GetServerTrailingMetadata();
    const auto found = trailers.find(name);
    return found == trailers.end() ? "" : std::string(found->second.data(), found->second.size());
  }
  std::string param() const { return Trailer("holdfast-error-param"); }
  grpc::ClientContext context;
};

class GrpcBatchesTest : public testing::Test {
 protected:
  ~GrpcBatchesTest() override {
    server_.reset();
    background_.reset();
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + end);
  }

  void Begin(GrpcServerOptions options = {}) {
    auto state = State::Open(path_, {}, clock_);
    ASSERT_TRUE(state.ok()) << state.status();
    background_ =
        std::make_unique<BackgroundService>(BackgroundOptions{.tenants = {"zero", "one", "two"}},
                                            *std::move(state), service_, metrics_);
    background_->BeginRunning();
    options.background = background_.get();
    BeginServer(std::move(options));
  }
  void BeginServer(GrpcServerOptions options) {
    options.address = "127.0.0.1:0";
    auto server =
        GrpcServer::Create(std::move(options), service_, keys_, [] { return Readiness::kReady; });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::Batches::NewStub(channel_);
  }

  static v1::UploadFileRequest Info(int64_t bytes) {
    v1::UploadFileRequest part;
    part.mutable_info()->set_filename("in.jsonl");
    part.mutable_info()->set_purpose("batch");
    part.mutable_info()->set_bytes(bytes);
    return part;
  }
  static v1::UploadFileRequest Content(const std::string& bytes) {
    v1::UploadFileRequest part;
    part.set_content(bytes);
    return part;
  }
  grpc::Status Upload(Call& call, const std::vector<v1::UploadFileRequest>& parts, v1::File& file) {
    auto writer = stub_->UploadFile(&call.context, &file);
    for (const v1::UploadFileRequest& part : parts) {
      if (!writer->Write(part)) break;  // refused midway; the status tells
    }
    writer->WritesDone();
    return writer->Finish();
  }
  // Its id.
  std::string Uploaded(const std::string& content, const std::string& key = "k1") {
    Call call(key);
    v1::File file;
    const grpc::Status status =
        Upload(call, {Info(static_cast<int64_t>(content.size())), Content(content)}, file);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return file.id();
  }
  std::vector<std::string> Downloaded(const std::string& id) {
    Call call;
    v1::DownloadFileRequest request;
    request.set_id(id);
    auto reader = stub_->DownloadFile(&call.context, request);
    std::vector<std::string> pieces;
    v1::FileContent piece;
    while (reader->Read(&piece)) pieces.push_back(piece.content());
    EXPECT_TRUE(reader->Finish().ok());
    return pieces;
  }
  v1::CreateBatchRequest Wish(const std::string& file) {
    v1::CreateBatchRequest wish;
    wish.set_input_file_id(file);
    wish.set_endpoint("/v1/completions");
    return wish;
  }
  v1::Batch Created(const v1::CreateBatchRequest& wish) {
    Call call;
    v1::Batch batch;
    const grpc::Status status = stub_->CreateBatch(&call.context, wish, &batch);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return batch;
  }
  v1::Batch Find(const std::string& id) {
    Call call;
    v1::GetBatchRequest request;
    request.set_id(id);
    v1::Batch batch;
    EXPECT_TRUE(stub_->GetBatch(&call.context, request, &batch).ok());
    return batch;
  }
  v1::Batch CameTo(const std::string& id, v1::BatchStatus status) {
    const absl::Time deadline = absl::Now() + kPatience;
    v1::Batch batch = Find(id);
    while (batch.status() != status && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(5));
      batch = Find(id);
    }
    EXPECT_EQ(batch.status(), status);
    return batch;
  }
  // What the background thread keeps of tenant "one", without a server.
  int64_t FilesKept() {
    int64_t files = -1;
    absl::Notification done;
    EXPECT_TRUE(background_->Ask([&](State& state) {
      files = static_cast<int64_t>(state.batches().ListFiles("one", "", {})->entries.size());
      done.Notify();
    }));
    done.WaitForNotification();
    return files;
  }
  // A file of this size of tenant "one", without a server; its id.
  std::string Kept(size_t bytes) {
    std::string id;
    absl::Notification done;
    EXPECT_TRUE(background_->Ask([&](State& state) {
      id = state.batches().AddFile("one", "a", "batch", std::string(bytes, 'x'), {})->id;
      done.Notify();
    }));
    done.WaitForNotification();
    return id;
  }
  static bool Comes(const std::function<bool()>& is_there) {
    const absl::Time deadline = absl::Now() + kPatience;
    while (!is_there() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
    return is_there();
  }
  // The statuses of all calls, by one who has only this key, of this file and batch.
  std::vector<grpc::Status> CallAll(const std::string& key, const std::string& file,
                                    const std::string& batch);

  const std::string path_ =
      absl::StrCat(testing::TempDir(), "/grpc-batches-", getpid(), "-",
                   testing::UnitTest::GetInstance()->current_test_info()->name(), ".sqlite");
  WallClock clock_;
  FakeService service_;
  FakeAuthenticator keys_;
  MetricsRegistry metrics_;
  std::unique_ptr<BackgroundService> background_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Batches::Stub> stub_;
};

std::vector<grpc::Status> GrpcBatchesTest::CallAll(const std::string& key, const std::string& file,
                                                   const std::string& batch) {
  std::vector<grpc::Status> statuses;
  const auto add = [&](const std::function<grpc::Status(grpc::ClientContext*)>& ask) {
    Call call(key);
    statuses.push_back(ask(&call.context));
  };
  v1::File a_file;
  v1::Batch a_batch;
  const auto named = [](auto request, const std::string& id) {
    request.set_id(id);
    return request;
  };
  add([&](auto* context) {
    return stub_->GetFile(context, named(v1::GetFileRequest(), file), &a_file);
  });
  add([&](auto* context) {
    v1::FileContent piece;
    auto reader = stub_->DownloadFile(context, named(v1::DownloadFileRequest(), file));
    EXPECT_FALSE(reader->Read(&piece));
    return reader->Finish();
  });
  add([&](auto* context) {
    v1::DeleteFileResponse deleted;
    return stub_->DeleteFile(context, named(v1::DeleteFileRequest(), file), &deleted);
  });
  add([&](auto* context) { return stub_->CreateBatch(context, Wish(file), &a_batch); });
  add([&](auto* context) {
    return stub_->GetBatch(context, named(v1::GetBatchRequest(), batch), &a_batch);
  });
  add([&](auto* context) {
    return stub_->CancelBatch(context, named(v1::CancelBatchRequest(), batch), &a_batch);
  });
  return statuses;
}

TEST_F(GrpcBatchesTest, AFileGoesUpInPiecesAndComesDownInPieces) {
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

TEST_F(GrpcBatchesTest, AnUploadThatIsNotAsItsInfoSaysIsNotKept) {
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

TEST_F(GrpcBatchesTest, OfAnUploadThatIsCutNothingIsKept) {
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

TEST_F(GrpcBatchesTest, AnUploadThatStallsIsEnded) {
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

TEST_F(GrpcBatchesTest, ADownloadThatIsNotReadIsEndedAndItsRoomGivenBack) {
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

TEST_F(GrpcBatchesTest, AFileIsForgottenBeforeItsClientTakesTheAnswer) {
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

TEST_F(GrpcBatchesTest, ACallWhoseClientDoesNotTakeItsAnswerIsEnded) {
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

TEST_F(GrpcBatchesTest, ATenantMovesABoundedNumberOfFilesAndLeavesRoomForOthers) {
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

TEST_F(GrpcBatchesTest, FilesAreListedInPagesAndDeleted) {
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

TEST_F(GrpcBatchesTest, ShutdownEndsAnUploadThatIsOnItsWay) {
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
