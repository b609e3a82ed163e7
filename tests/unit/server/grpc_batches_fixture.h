// The Batches service over a background thread with a database of its own, and its clients.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "holdfast/v1/batches.grpc.pb.h"
#include "server/background_service.h"
#include "server/grpc_server.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {

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

class GrpcBatchesFixture : public testing::Test {
 protected:
  ~GrpcBatchesFixture() override {
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

inline std::vector<grpc::Status> GrpcBatchesFixture::CallAll(const std::string& key,
                                                             const std::string& file,
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

}  // namespace holdfast
