// The port: health, reflection, TLS, its bound, and how it stops.
#include "server/grpc_server.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "tests/unit/server/grpc_server_fixture.h"
#include "tests/unit/server/self_signed_certificate.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

class GrpcServerTest : public GrpcServerFixture {
 protected:
  // As seen by a load balancer, without the generated stubs of the health service.
  int Health(const std::string& name) {
    grpc::ClientContext context;
    grpc::GenericStub stub(channel_);
    grpc::CompletionQueue queue;
    std::string bytes;
    if (!name.empty()) {  // HealthCheckRequest { string service = 1; }
      bytes = absl::StrCat("\x0a", std::string(1, static_cast<char>(name.size())), name);
    }
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, this);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    if (!status.ok()) return -static_cast<int>(status.error_code());
    grpc::Slice answer;  // HealthCheckResponse { ServingStatus status = 1; }
    EXPECT_TRUE(response.DumpToSingleSlice(&answer).ok());
    return answer.size() == 2 ? answer.begin()[1] : 0;
  }
};

TEST_F(GrpcServerTest, HealthFollowsReadinessAndCallsAreRefusedMeanwhile) {
  constexpr int kServing = 1, kNotServing = 2;
  EXPECT_EQ(Health(""), kServing);
  EXPECT_EQ(Health("holdfast.v1.Generation"), kServing);
  EXPECT_EQ(Health("other"), -static_cast<int>(grpc::StatusCode::NOT_FOUND));
  readiness_ = Readiness::kFailing;
  server_->SetReadiness(Readiness::kFailing);
  EXPECT_EQ(Health(""), kNotServing);
  Caller early;
  const grpc::Status failing = Refused(early, Ask());
  EXPECT_EQ(failing.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_NE(failing.error_message().find("engine has failed"), std::string::npos);
  server_->SetReadiness(Readiness::kReady);
  EXPECT_EQ(Health(""), kServing);
  readiness_ = Readiness::kLeaving;
  server_->SetReadiness(Readiness::kLeaving);
  EXPECT_EQ(Health(""), kNotServing);  // while calls are taken still: see the HTTP port's test
  readiness_ = Readiness::kDraining;
  server_->SetReadiness(Readiness::kDraining);
  EXPECT_EQ(Health(""), kNotServing);
  EXPECT_EQ(Health("holdfast.v1.Generation"), kNotServing);
  Caller client;
  EXPECT_EQ(Refused(client, Ask()).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(client.Trailer("retry-after"), "5");
}

TEST_F(GrpcServerTest, ReflectionIsThere) {
  grpc::ClientContext context;
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return ok;
  };
  call->StartCall(this);
  ASSERT_TRUE(next());
  const std::string bytes("\x3a\x01*", 3);  // ServerReflectionRequest { list_services = 7: "*" }
  const grpc::Slice slice(bytes);
  call->Write(grpc::ByteBuffer(&slice, 1), this);
  ASSERT_TRUE(next());
  grpc::ByteBuffer response;
  call->Read(&response, this);
  ASSERT_TRUE(next());
  grpc::Slice answer;
  ASSERT_TRUE(response.DumpToSingleSlice(&answer).ok());
  EXPECT_THAT(std::string(reinterpret_cast<const char*>(answer.begin()), answer.size()),
              HasSubstr("holdfast.v1.Generation"));
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, this);
  next();
}

TEST_F(GrpcServerTest, ShutdownWaitsForWhatRuns) {
  Caller client;
  auto reader = stub_->ChatStream(&client.context, Ask());
  HandService::Started started = service_.Wait();
  std::thread stopper([&] { server_->Shutdown(absl::InfiniteFuture()); });
  started.writer.Push(ChoiceDelta{.text = "a", .finish = FinishReason::kStop});
  started.writer.Push(GenerationDone{});
  v1::ChatChunk chunk;
  std::string text;
  while (reader->Read(&chunk)) {
    for (const auto& choice : chunk.choices()) text += choice.content();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "a");
  stopper.join();
}

TEST_F(GrpcServerTest, ShutdownAtItsDeadlineCancelsWhatRuns) {
  Caller client;
  auto reader = stub_->ChatStream(&client.context, Ask());
  std::thread worker([&, started = service_.Wait()]() mutable {
    while (service_.cancels() == 0) std::this_thread::yield();
    started.writer.Push(GenerationDone{.status = absl::CancelledError("cancelled")});
  });
  server_->Shutdown(absl::InfinitePast());
  worker.join();
  v1::ChatChunk chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(GrpcServerTest, WhoseServerDrainsAsksTheNextOneWhileItsStreamGoesOn) {
  Caller client;
  auto reader = stub_->ChatStream(&client.context, Ask());
  HandService::Started running = service_.Wait();
  readiness_ = Readiness::kDraining;
  server_->BeginDrain();
  absl::StatusOr<std::unique_ptr<GrpcServer>> next = absl::UnknownError("none yet");
  for (; !next.ok(); absl::SleepFor(absl::Milliseconds(10))) {  // until the port is closed
    next = GrpcServer::Create({.address = absl::StrCat("127.0.0.1:", server_->port())}, service_,
                              keys_, [] { return Readiness::kReady; });
  }
  Caller second;  // on the same channel
  second.context.set_wait_for_ready(true);
  v1::ChatResponse answer;
  std::thread worker([&, started = std::optional<HandService::Started>()]() mutable {
    started.emplace(service_.Wait());
    started->writer.Push(ChoiceDelta{.text = "b", .finish = FinishReason::kStop});
    started->writer.Push(GenerationDone{});
  });
  EXPECT_TRUE(stub_->Chat(&second.context, Ask(), &answer).ok());
  worker.join();
  EXPECT_EQ(answer.choices(0).message().content(), "b");

  running.writer.Push(ChoiceDelta{.text = "a", .finish = FinishReason::kStop});
  running.writer.Push(GenerationDone{});
  v1::ChatChunk chunk;
  std::string text;
  while (reader->Read(&chunk)) {
    for (const auto& choice : chunk.choices()) text += choice.content();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "a");
}

TEST_F(GrpcServerTest, ATakenPortIsRefused) {
  const auto second = GrpcServer::Create({.address = absl::StrCat("127.0.0.1:", server_->port())},
                                         service_, keys_, [] { return Readiness::kReady; });
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(GrpcServerTest, MissingTlsFilesAreNamed) {
  const auto server = GrpcServer::Create(
      {.address = "127.0.0.1:0",
       .tls = TlsConfig{.certificate_path = "/no/such.pem", .key_path = "/no/such.key"}},
      service_, keys_, [] { return Readiness::kReady; });
  EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("/no/such.pem"));
}

TEST_F(GrpcServerTest, RefusesGenerationsBeyondItsBoundUntilOneEnds) {
  auto server = GrpcServer::Create({.address = "127.0.0.1:0", .calls_max = 1}, service_, keys_,
                                   [] { return Readiness::kReady; });
  ASSERT_TRUE(server.ok()) << server.status();
  auto stub = v1::Generation::NewStub(grpc::CreateChannel(
      absl::StrCat("127.0.0.1:", (*server)->port()), grpc::InsecureChannelCredentials()));
  Caller first;
  auto reader = stub->ChatStream(&first.context, Ask());
  HandService::Started started = service_.Wait();

  Caller second;
  v1::ChatResponse response;
  const grpc::Status refused = stub->Chat(&second.context, Ask(), &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(second.Trailer("retry-after"), "1");
  EXPECT_TRUE(service_.nothing_started());

  started.writer.Push(GenerationDone{});
  v1::ChatChunk chunk;
  while (reader->Read(&chunk)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GrpcServerTest, UnderTlsItAnswersWhoTrustsItsCertificateAndHasAKey) {
  const SelfSignedCertificate certificate;
  auto server = GrpcServer::Create({.address = "127.0.0.1:0", .tls = certificate.files()}, service_,
                                   keys_, [] { return Readiness::kReady; });
  ASSERT_TRUE(server.ok()) << server.status();

  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride("localhost");
  const std::string address = absl::StrCat("127.0.0.1:", (*server)->port());
  auto list = [&](const std::string& roots, const std::string& key,
                  v1::ListModelsResponse& models) {
    grpc::SslCredentialsOptions trust;
    trust.pem_root_certs = roots;
    auto stub = v1::Generation::NewStub(
        grpc::CreateCustomChannel(address, grpc::SslCredentials(trust), arguments));
    Caller client(key);
    return stub->ListModels(&client.context, {}, &models).error_code();
  };
  v1::ListModelsResponse models;
  EXPECT_EQ(list(certificate.certificate(), "blue-key", models), grpc::StatusCode::OK);
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(list(certificate.certificate(), "no-key", models), grpc::StatusCode::UNAUTHENTICATED);

  auto plain =
      v1::Generation::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  Caller client;
  EXPECT_EQ(plain->ListModels(&client.context, {}, &models).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace holdfast
