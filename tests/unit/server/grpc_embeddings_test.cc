// Embed: texts and tokens in, vectors out.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "holdfast/v1/generate.grpc.pb.h"
#include "tests/unit/server/grpc_server_fixture.h"

namespace holdfast {
namespace {

using testing::ElementsAre;

using GrpcEmbeddingsTest = GrpcServerFixture;

TEST_F(GrpcEmbeddingsTest, EmbedsTextsAndTokensInTheirOrder) {
  v1::EmbedRequest request;
  request.add_inputs()->set_text("ab");
  request.add_inputs()->mutable_tokens()->add_ids(4);
  request.mutable_options()->set_cache_salt("salt");
  std::thread worker([&] {
    std::vector<HandService::Started> started;
    for (int i = 0; i < 2; ++i) started.push_back(service_.Wait());
    EXPECT_EQ(std::get<std::string>(started[0].request.prompt), "ab");
    EXPECT_THAT(std::get<std::vector<TokenId>>(started[1].request.prompt), ElementsAre(4));
    EXPECT_EQ(started[0].request.wire_id, started[1].request.wire_id);
    EXPECT_EQ(started[1].request.cache_salt, "salt");
    EXPECT_EQ(started[1].request.tenant, TenantIndex{1});
    for (int i = 1; i >= 0; --i) {
      const float number = static_cast<float>(i);
      started[i].writer.Push(PromptInfo{.prompt_tokens = 3, .embedding = {number, -number}});
      started[i].writer.Push(ChoiceDelta{.finish = FinishReason::kLength});
      started[i].writer.Push(GenerationDone{.prompt_tokens = 3, .cached_tokens = 1});
    }
  });
  Caller client;
  v1::EmbedResponse response;
  EXPECT_TRUE(stub_->Embed(&client.context, request, &response).ok());
  worker.join();
  ASSERT_EQ(response.embeddings_size(), 2);
  EXPECT_THAT(response.embeddings(1).values(), ElementsAre(1.0f, -1.0f));
  EXPECT_EQ(response.usage().total_tokens(), 6);
  EXPECT_EQ(response.usage().cached_tokens(), 2);
  EXPECT_EQ(response.model(), "tiny");
}

TEST_F(GrpcEmbeddingsTest, AnEmbeddingThatFailsFailsTheCallAndStopsTheOthers) {
  v1::EmbedRequest request;
  request.add_inputs()->set_text("a");
  request.add_inputs()->set_text("b");
  std::thread worker([&] {
    HandService::Started first = service_.Wait(), second = service_.Wait();
    first.writer.Push(GenerationDone{.status = absl::UnavailableError("the device is gone")});
    while (service_.cancels() == 0) std::this_thread::yield();
  });
  Caller client;
  v1::EmbedResponse response;
  EXPECT_EQ(stub_->Embed(&client.context, request, &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  worker.join();
}

TEST_F(GrpcEmbeddingsTest, RefusesWhatCannotBeEmbeddedByName) {
  const auto refused = [&](const v1::EmbedRequest& request) {
    Caller client;
    v1::EmbedResponse response;
    EXPECT_EQ(stub_->Embed(&client.context, request, &response).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_TRUE(service_.nothing_started());
    return client.Trailer("holdfast-error-param");
  };
  v1::EmbedRequest request;
  EXPECT_EQ(refused(request), "inputs");
  request.add_inputs()->set_text("a");
  request.add_inputs();
  EXPECT_EQ(refused(request), "inputs[1]");
  request.mutable_inputs(1)->mutable_tokens()->add_ids(300);
  EXPECT_EQ(refused(request), "inputs[1]");
  request.mutable_inputs()->RemoveLast();
  request.set_dimensions(1);
  EXPECT_EQ(refused(request), "dimensions");
  request.clear_dimensions();
  request.mutable_options()->set_session_id("s");
  EXPECT_EQ(refused(request), "options");
}

}  // namespace
}  // namespace holdfast
