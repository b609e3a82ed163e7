// The gRPC front before a GenerationService whose answers the test gives, and its clients.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "server/grpc_server.h"
#include "server/http_status.h"
#include "server/token_stream.h"

namespace holdfast {

// Takes requests and lets the test say what comes of them.
class HandService final : public GenerationService {
 public:
  struct Started {
    GenerationRequest request;
    StreamWriter writer;
  };

  HandService() {
    info_.name = "tiny";
    info_.aliases = {"small"};
    info_.context_tokens = 100;
    info_.vocab_size = 300;
    info_.created_unix = 5;
    info_.has_chat_template = true;
    info_.tool_calls = ToolCallFormat::kHermes;
    info_.embedding_size = 2;
  }

  std::shared_ptr<GenerationStream> Start(GenerationRequest request) override {
    StreamEnds ends = MakeTokenStream([this] { ++cancels_; });
    absl::MutexLock lock(&mutex_);
    started_.push_back({.request = std::move(request), .writer = std::move(ends.writer)});
    return ends.reader;
  }
  bool CancelByWireId(TenantIndex tenant, const std::string& wire_id) override {
    return tenant == TenantIndex{1} && wire_id == "mine";
  }
  void Tokenize(TextCaller, std::variant<ChatInput, std::string>, bool,
                absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)>) override {}
  void Detokenize(TextCaller, std::vector<TokenId>,
                  absl::AnyInvocable<void(absl::StatusOr<std::string>)>) override {}
  std::string TokenText(TokenId) const override { return ""; }
  const ModelInfo& model_info() const override { return info_; }

  Started Wait() {
    absl::MutexLock lock(&mutex_);
    auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !started_.empty(); };
    mutex_.Await(absl::Condition(&there));
    Started started = std::move(started_.front());
    started_.pop_front();
    return started;
  }
  bool nothing_started() {
    absl::MutexLock lock(&mutex_);
    return started_.empty();
  }
  int cancels() const { return cancels_; }

 private:
  ModelInfo info_;
  std::atomic<int> cancels_{0};
  absl::Mutex mutex_;
  std::deque<Started> started_ ABSL_GUARDED_BY(mutex_);
};

class TwoKeys final : public Authenticator {
 public:
  absl::StatusOr<Authenticated> Authenticate(std::string_view key) const override {
    if (key == "red-key") return Authenticated{.tenant = TenantIndex{0}};
    if (key == "blue-key") return Authenticated{.tenant = TenantIndex{1}};
    absl::Status status = absl::UnauthenticatedError("the key is not known");
    status.SetPayload(kErrorCodeUrl, absl::Cord("invalid_api_key"));
    return status;
  }
};

// One call's client side: a context with a key, and what is read off it afterwards.
struct Caller {
  explicit Caller(const std::string& key = "blue-key") {
    if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
  }
  std::string Trailer(const std::string& name) {
    const auto& trailers = context.GetServerTrailingMetadata();
    const auto found = trailers.find(name);
    return found == trailers.end() ? "" : std::string(found->second.data(), found->second.size());
  }
  grpc::ClientContext context;
};

class GrpcServerFixture : public testing::Test {
 protected:
  GrpcServerFixture() {
    auto server = GrpcServer::Create({.address = "127.0.0.1:0"}, service_, keys_,
                                     [this] { return readiness_.load(); });
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::Generation::NewStub(channel_);
  }

  v1::ChatRequest Ask() {
    v1::ChatRequest request;
    v1::Message& message = *request.add_messages();
    message.set_role("user");
    message.set_content("Hello");
    request.mutable_stopping()->set_max_tokens(5);
    return request;
  }
  // The status of a chat that is refused before it starts.
  grpc::Status Refused(Caller& client, const v1::ChatRequest& request) {
    v1::ChatResponse response;
    const grpc::Status status = stub_->Chat(&client.context, request, &response);
    EXPECT_TRUE(service_.nothing_started());
    return status;
  }

  HandService service_;
  TwoKeys keys_;
  std::atomic<Readiness> readiness_{Readiness::kReady};
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Generation::Stub> stub_;
};

}  // namespace holdfast
