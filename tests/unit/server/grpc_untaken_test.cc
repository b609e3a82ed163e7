// Generation over gRPC for clients that do not take what they are sent: their calls end, and others
// are served meanwhile.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "scheduler/scheduler_loop.h"
#include "server/generation_service.h"
#include "server/grpc_server.h"
#include "tests/sim/fake_engine.h"
#include "tests/sim/metric_values.h"
#include "tests/unit/server/byte_tokenizer.h"
#include "tests/unit/server/grpc_untaken_call.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

v1::CompleteRequest Ask(const std::string& prompt) {
  v1::CompleteRequest request;
  request.set_prompt(prompt);
  return request;
}

// A server whose clients have a short while for what they are sent.
class ImpatientServer {
 public:
  explicit ImpatientServer(GenerationService& service) {
    auto server =
        GrpcServer::Create({.address = "127.0.0.1:0", .write_timeout = absl::Milliseconds(200)},
                           service, keys_, [] { return Readiness::kReady; });
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::Generation::NewStub(grpc::CreateChannel(absl::StrCat("127.0.0.1:", port()),
                                                        grpc::InsecureChannelCredentials()));
  }
  int port() const { return server_->port(); }
  v1::Generation::Stub& stub() { return *stub_; }
  void ExpectNoCallIsLeft() {
    const absl::Time deadline = absl::Now() + kPatience;
    server_->Shutdown(deadline);
    EXPECT_LT(absl::Now(), deadline) << "calls are left";
  }

 private:
  FakeAuthenticator keys_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::Generation::Stub> stub_;
};

class GrpcUntakenTest : public testing::Test {
 protected:
  FakeService service_;
  ImpatientServer server_{service_};
};

TEST_F(GrpcUntakenTest, AStreamThatIsNotReadIsCancelledAndItsCallGone) {
  UntakenCall call(server_.port(), "Generation/CompleteStream", Ask("a"));
  call.EndSending();
  const auto stream = service_.stream(0);
  stream->PushText("x");
  EXPECT_TRUE(stream->cancelled.WaitForNotificationWithTimeout(kPatience));
  server_.ExpectNoCallIsLeft();
}

TEST_F(GrpcUntakenTest, AStreamThatIsReadNoMoreIsCancelled) {
  grpc::ClientContext context;
  context.AddMetadata("x-api-key", "k1");
  auto reader = server_.stub().CompleteStream(&context, Ask("a"));
  const auto stream = service_.stream(0);
  stream->PushText("x");
  v1::CompleteChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  for (int i = 0; i < 32; ++i) stream->PushText(std::string(1 << 20, 'x'));
  EXPECT_TRUE(stream->cancelled.WaitForNotificationWithTimeout(kPatience));
  server_.ExpectNoCallIsLeft();
  while (reader->Read(&chunk)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(GrpcUntakenTest, AStreamsEndThatIsNotTakenIsCancelled) {
  service_.on_start = [](const GenerationRequest&, FakeStream& stream) {
    stream.Push(GenerationDone{.prompt_tokens = 3});  // nothing else is written
  };
  UntakenCall call(server_.port(), "Generation/CompleteStream", Ask("a"));
  call.EndSending();
  call.AwaitAnswer();
  server_.ExpectNoCallIsLeft();
}

TEST_F(GrpcUntakenTest, AnAnswerThatIsNotTakenIsCancelled) {
  service_.on_start = [](const GenerationRequest&, FakeStream& stream) {
    stream.Push(PromptInfo{.prompt_tokens = 1, .embedding = {1, 2}});
    stream.PushText("Paris");
    stream.PushEnd();
  };
  v1::GenerateRequest tokens;
  tokens.add_prompt_tokens(1);
  v1::EmbedRequest texts;
  texts.add_inputs()->set_text("a");
  std::vector<std::unique_ptr<UntakenCall>> calls;
  const auto ask = [&](const std::string& method, const google::protobuf::Message& request) {
    calls.push_back(std::make_unique<UntakenCall>(server_.port(), "Generation/" + method, request));
    calls.back()->EndSending();
  };
  ask("Complete", Ask("a"));
  ask("Generate", tokens);
  ask("Embed", texts);
  for (const auto& call : calls) call->AwaitAnswer();
  server_.ExpectNoCallIsLeft();
}

TEST_F(GrpcUntakenTest, AStreamThatIsReadMayPauseForLonger) {
  grpc::ClientContext context;
  context.AddMetadata("x-api-key", "k1");
  auto reader = server_.stub().CompleteStream(&context, Ask("a"));
  const auto stream = service_.stream(0);
  v1::CompleteChunk chunk;
  const auto read = [&](const std::string& text) {
    stream->PushText(text);
    ASSERT_TRUE(reader->Read(&chunk));
    EXPECT_EQ(chunk.choices(0).text(), text);
  };
  read("a");
  for (const size_t bytes : {size_t{1}, size_t{1} << 20}) {
    const size_t index = service_.num_started();
    UntakenCall call(server_.port(), "Generation/CompleteStream", Ask("b"));  // has as long
    call.EndSending();
    const auto untaken = service_.stream(index);
    untaken->PushText(std::string(1 << 20, 'x'));
    EXPECT_TRUE(untaken->cancelled.WaitForNotificationWithTimeout(kPatience));
    untaken->PushEnd();
    read(std::string(bytes, 'b'));
  }
  stream->PushEnd();
  while (reader->Read(&chunk)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

// Lets as many steps pass as it is told to, and after Open all.
class StepGate {
 public:
  void Pass() {
    absl::MutexLock lock(&mutex_);
    const auto may_pass = [this]()
                              ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return open_ || steps_ > 0; };
    mutex_.Await(absl::Condition(&may_pass));
    --steps_;
  }
  void LetOne() {
    absl::MutexLock lock(&mutex_);
    ++steps_;
  }
  void Open() {
    absl::MutexLock lock(&mutex_);
    open_ = true;
  }

 private:
  absl::Mutex mutex_;
  int steps_ ABSL_GUARDED_BY(mutex_) = 0;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
};

// Over the real scheduler, with the engine alone being fake.
class GrpcUntakenOverSchedulerTest : public testing::Test {
 protected:
  static constexpr int32_t kContextTokens = 4096;

  GrpcUntakenOverSchedulerTest() {
    const std::vector<TenantConfig> tenants = {{.name = "zero"}, {.name = "one"}, {.name = "two"}};
    GenerationServiceOptions options{
        .eos_tokens = {ByteTokenizer::kEos}, .kv_layout = "fake", .tenants = tenants};
    options.model.name = "fake";
    options.model.context_tokens = kContextTokens;
    options.model.vocab_size = tokenizer_.vocab_size();
    service_ = std::make_unique<SchedulerGenerationService>(options, tokenizer_, nullptr, clock_,
                                                            metrics_);
    engine_.OnExecute([this](const StepPlan&) { gate_.Pass(); });
    auto loop = SchedulerLoop::Create(
        engine_, {.running_max = 8, .tenants = tenants, .model_name = "fake"}, metrics_, *service_);
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    service_->Connect(PortTo(*loop_));
    server_ = std::make_unique<ImpatientServer>(*service_);
  }
  ~GrpcUntakenOverSchedulerTest() override {
    gate_.Open();
    server_.reset();
    loop_->Stop();
    service_->Shutdown();
  }

  double NumCancelled() {
    return MetricValues(metrics_).Sum("holdfast_server_requests_total", {R"(outcome="cancelled")"});
  }

  StepGate gate_;
  ByteTokenizer tokenizer_;
  FakeEngine engine_{{.vocab_size = 258, .context_tokens = kContextTokens, .num_blocks = 600}};
  SteadyClock clock_;
  MetricsRegistry metrics_;
  std::unique_ptr<SchedulerGenerationService> service_;
  std::unique_ptr<SchedulerLoop> loop_;
  std::unique_ptr<ImpatientServer> server_;
};

TEST_F(GrpcUntakenOverSchedulerTest, AStreamThatIsNotReadGivesItsBlocksBackAndOthersGoOn) {
  v1::CompleteRequest much = Ask(std::string(1000, 'a'));
  much.set_echo(true);
  much.set_prompt_logprobs(20);  // the first piece is more than gRPC buffers
  much.mutable_stopping()->set_ignore_eos(true);
  UntakenCall untaken(server_->port(), "Generation/CompleteStream", much);
  untaken.EndSending();

  v1::CompleteRequest little = Ask("b");
  little.mutable_stopping()->set_ignore_eos(true);
  little.mutable_stopping()->set_max_tokens(5);
  grpc::ClientContext context;
  context.AddMetadata("x-api-key", "other");
  v1::CompleteResponse response;
  auto answered = std::async(std::launch::async,
                             [&] { return server_->stub().Complete(&context, little, &response); });
  // Steps come slowly, so that the first is not done before the second has come, however late.
  while (answered.wait_for(std::chrono::milliseconds(2)) != std::future_status::ready) {
    gate_.LetOne();
  }
  const grpc::Status status = answered.get();
  for (int i = 0; i < 100; ++i) gate_.LetOne();  // if the first was later than the second
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.usage().completion_tokens(), 5);

  const absl::Time deadline = absl::Now() + kPatience;
  while (NumCancelled() == 0 && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_EQ(NumCancelled(), 1);
  gate_.Open();
  EXPECT_TRUE(service_->WaitIdle(absl::Now() + kPatience));
  EXPECT_EQ(loop_->snapshot().requests, 0);
  // The counts are published after the event that we have seen.
  const absl::Time end = absl::Now() + kPatience;
  while (loop_->snapshot().blocks.held != 0 && absl::Now() < end) std::this_thread::yield();
  EXPECT_EQ(loop_->snapshot().blocks.held, 0);
  server_->ExpectNoCallIsLeft();
}

}  // namespace
}  // namespace holdfast
