#include "server/replay.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "tests/unit/simulator/workload_of_turns.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int32_t kVocabulary = 1000;

// Answers request n with the tokens 10 n, 10 n + 1, ..., each in a message of its own, and keeps
// what it was asked.
class FakeServer final : public v1::Generation::Service {
 public:
  struct Asked {
    v1::GenerateRequest request;
    std::string authorization;
  };

  FakeServer() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    stub_ = v1::Generation::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                        grpc::InsecureChannelCredentials()));
  }
  ~FakeServer() override { server_->Shutdown(); }

  grpc::Status GenerateStream(grpc::ServerContext* context, const v1::GenerateRequest* request,
                              grpc::ServerWriter<v1::GenerateChunk>* writer) override {
    const int number = Enter(*context, *request);
    const grpc::Status status = Answer(number, *request, *writer);
    absl::MutexLock lock(&mutex_);
    --at_once_;
    return status;
  }

  v1::Generation::Stub& stub() { return *stub_; }
  std::vector<Asked> asked() {
    absl::MutexLock lock(&mutex_);
    return asked_;
  }
  int at_once_max() {
    absl::MutexLock lock(&mutex_);
    return at_once_max_;
  }
  void RefuseSession(const std::string& session) { refused_session_ = session; }
  // Goes on answering until the client leaves, and sets this once it began.
  void AnswerForEver(std::atomic<bool>* began) { began_ = began; }
  void LeaveOut(int32_t tokens) { left_out_ = tokens; }

 private:
  int Enter(const grpc::ServerContext& context, const v1::GenerateRequest& request) {
    absl::MutexLock lock(&mutex_);
    const auto found = context.client_metadata().find("authorization");
    asked_.push_back(
        {.request = request,
         .authorization = found == context.client_metadata().end()
                              ? ""
                              : std::string(found->second.data(), found->second.size())});
    at_once_max_ = std::max(at_once_max_, ++at_once_);
    return static_cast<int>(asked_.size()) - 1;
  }
  grpc::Status Answer(int number, const v1::GenerateRequest& request,
                      grpc::ServerWriter<v1::GenerateChunk>& writer) {
    if (!refused_session_.empty() && request.options().session_id() == refused_session_) {
      return {grpc::StatusCode::RESOURCE_EXHAUSTED, "full"};
    }
    const int32_t wanted = request.stopping().max_tokens() - left_out_;
    for (int32_t i = 0; i < wanted || began_ != nullptr; ++i) {
      v1::GenerateChunk chunk;
      chunk.add_choices()->add_tokens(10 * number + i);
      if (!writer.Write(chunk)) return grpc::Status::CANCELLED;
      if (began_ != nullptr) *began_ = true;
    }
    v1::GenerateChunk last;
    last.mutable_usage()->set_cached_tokens(request.prompt_tokens_size() / 2);
    writer.Write(last);
    return grpc::Status::OK;
  }

  std::string refused_session_;
  std::atomic<bool>* began_ = nullptr;
  int32_t left_out_ = 0;
  absl::Mutex mutex_;
  std::vector<Asked> asked_ ABSL_GUARDED_BY(mutex_);
  int at_once_ ABSL_GUARDED_BY(mutex_) = 0;
  int at_once_max_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Generation::Stub> stub_;
};

struct Replayed {
  Tally tally{1};
  std::vector<TurnRecord> turns;
  std::map<std::string, int64_t> errors;
  int64_t send_delays = 0;
  bool cut_short = false;
};

TokenRuns Tokens() { return *TokenRuns::Make({.seed = 1, .vocabulary = kVocabulary}); }

Replayed Replay(FakeServer& server, const Workload& workload, const ReplayOptions& options = {},
                std::atomic<bool>* stop = nullptr) {
  std::atomic<bool> never{false};
  Replayed out;
  const TokenRuns tokens = Tokens();
  ReplayClient client(workload, options, tokens, server.stub(),
                      [&](const TurnRecord& turn) { out.turns.push_back(turn); });
  out.tally = client.Run(stop == nullptr ? never : *stop, nullptr);
  out.errors = client.errors();
  out.send_delays = client.send_delay().count();
  out.cut_short = client.cut_short();
  return out;
}

std::vector<TokenId> PromptOf(const FakeServer::Asked& asked) {
  return {asked.request.prompt_tokens().begin(), asked.request.prompt_tokens().end()};
}

WorkloadProgram TwoTurns() {
  return {.session = "fixer",
          .turns = {{.runs = {{.id = 1, .num_tokens = 5}}, .completion_tokens = 3, .tool = 0},
                    {.after = absl::Milliseconds(1),
                     .kept_tokens = 8,
                     .runs = {{.id = 2, .num_tokens = 4}},
                     .completion_tokens = 2}}};
}

Workload Of(std::vector<WorkloadProgram> programs, int32_t num_tenants = 1) {
  Workload workload = WorkloadOf(std::move(programs), num_tenants);
  workload.tools = {"grep"};
  return workload;
}

TEST(ReplayTest, TheNextTurnHoldsWhatTheServerAnswered) {
  FakeServer server;
  const Workload workload = Of({TwoTurns()});
  const Replayed replayed = Replay(server, workload);
  const std::vector<FakeServer::Asked> asked = server.asked();
  ASSERT_EQ(asked.size(), 2u);
  std::vector<TokenId> prompt;
  Tokens().Append(std::vector<TokenRun>{{.id = 1, .num_tokens = 5}}, prompt);
  EXPECT_EQ(PromptOf(asked[0]), prompt);
  prompt.insert(prompt.end(), {0, 1, 2});
  Tokens().Append(std::vector<TokenRun>{{.id = 2, .num_tokens = 4}}, prompt);
  EXPECT_EQ(PromptOf(asked[1]), prompt);

  EXPECT_EQ(asked[0].request.stopping().max_tokens(), 3);
  EXPECT_TRUE(asked[0].request.stopping().ignore_eos());
  EXPECT_EQ(asked[0].request.options().session_id(), "fixer");
  EXPECT_FALSE(asked[0].request.options().session_final());
  EXPECT_EQ(asked[0].request.options().tool_hint().name(), "grep");
  EXPECT_TRUE(asked[1].request.options().session_final());
  EXPECT_FALSE(asked[1].request.options().has_tool_hint());

  ASSERT_EQ(replayed.turns.size(), 2u);
  const TurnRecord& first = replayed.turns[0];
  const TurnRecord& second = replayed.turns[1];
  EXPECT_EQ(first.end, TurnEnd::kDone);
  EXPECT_EQ(first.arrival_nanos, 0);
  EXPECT_LE(first.first_token_nanos, first.end_nanos);
  EXPECT_EQ(first.completion_tokens, 3);
  EXPECT_EQ(first.cached_tokens, 2);
  EXPECT_EQ(second.arrival_nanos, first.end_nanos + 1'000'000);
  EXPECT_EQ(second.kept_tokens, 8);
  const TenantTally& tenant = replayed.tally.tenants[0];
  EXPECT_EQ(tenant.programs_done, 1);
  EXPECT_EQ(tenant.turns_done, 2);
  EXPECT_EQ(tenant.itl.count(), 3);
  EXPECT_EQ(tenant.queue.count(), 0);  // which no client sees
  EXPECT_THAT(replayed.errors, IsEmpty());
}

TEST(ReplayTest, ARefusalEndsItsProgramAndNoOther) {
  FakeServer server;
  server.RefuseSession("fixer");
  const Workload workload = Of({TwoTurns(), OneTurn(absl::ZeroDuration(), 3, 16, 2)});
  const Replayed replayed = Replay(server, workload);
  const TenantTally& tenant = replayed.tally.tenants[0];
  EXPECT_EQ(tenant.turns_refused, 1);
  EXPECT_EQ(tenant.turns_abandoned, 1);
  EXPECT_EQ(tenant.turns_done, 1);
  EXPECT_EQ(tenant.programs_cut, 1);
  EXPECT_EQ(tenant.programs_done, 1);
  EXPECT_EQ(replayed.errors, (std::map<std::string, int64_t>{{"RESOURCE_EXHAUSTED", 1}}));
}

TEST(ReplayTest, AnAnswerOfTooFewTokensIsAFailure) {
  FakeServer server;
  server.LeaveOut(1);
  const Replayed replayed = Replay(server, Of({TwoTurns()}));
  EXPECT_EQ(replayed.tally.tenants[0].turns_failed, 1);
  EXPECT_EQ(replayed.tally.tenants[0].turns_abandoned, 1);
  EXPECT_EQ(replayed.errors, (std::map<std::string, int64_t>{{"SHORT_ANSWER", 1}}));
}

TEST(ReplayTest, BeyondTheBoundTurnsWaitAndTheirTimesCountFromWhenTheyWereDue) {
  FakeServer server;
  std::vector<WorkloadProgram> programs;
  for (uint64_t i = 0; i < 6; ++i) programs.push_back(OneTurn(absl::ZeroDuration(), i, 16, 3));
  const Replayed replayed = Replay(server, Of(programs), {.in_flight_max = 1});
  EXPECT_EQ(server.at_once_max(), 1);
  ASSERT_EQ(replayed.turns.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(replayed.turns[i].arrival_nanos, 0);
    if (i > 0) {
      EXPECT_GT(replayed.turns[i].first_token_nanos, replayed.turns[i - 1].end_nanos);
    }
  }
  EXPECT_EQ(replayed.send_delays, 6);
}

TEST(ReplayTest, StoppedItSaysWhatItHas) {
  FakeServer server;
  std::atomic<bool> stop{false};
  server.AnswerForEver(&stop);
  const Workload workload = Of({TwoTurns(), OneTurn(absl::Hours(1), 3, 16, 2)});
  const Replayed replayed = Replay(server, workload, {}, &stop);
  EXPECT_TRUE(replayed.cut_short);
  EXPECT_EQ(replayed.tally.tenants[0].turns_failed, 1);
  EXPECT_EQ(replayed.tally.tenants[0].turns_abandoned, 2);
  EXPECT_EQ(replayed.tally.tenants[0].programs_cut, 2);
  EXPECT_EQ(replayed.errors, (std::map<std::string, int64_t>{{"CUT_SHORT", 1}}));
}

TEST(ReplayTest, NothingIsSentAfterItsTime) {
  FakeServer server;
  const Workload workload = Of({OneTurn(absl::Hours(1), 3, 16, 2)});
  const Replayed replayed = Replay(server, workload, {.timeout = absl::Milliseconds(1)});
  EXPECT_TRUE(replayed.cut_short);
  EXPECT_EQ(replayed.tally.tenants[0].turns_abandoned, 1);
  EXPECT_THAT(server.asked(), IsEmpty());
}

TEST(ReplayTest, EachTenantComesWithItsKey) {
  FakeServer server;
  std::vector<WorkloadProgram> programs = {OneTurn(absl::ZeroDuration(), 1, 16, 1),
                                           OneTurn(absl::ZeroDuration(), 2, 17, 1)};
  programs[1].tenant = 1;
  Replay(server, Of(programs, 2), {.keys = {"one", "two"}});
  std::map<int, std::string> keys;
  for (const FakeServer::Asked& asked : server.asked()) {
    keys[asked.request.prompt_tokens_size()] = asked.authorization;
  }
  EXPECT_EQ(keys, (std::map<int, std::string>{{16, "Bearer one"}, {17, "Bearer two"}}));
}

TEST(ReplayTest, NamesThatTheWireDoesNotTakeBecomeOthers) {
  FakeServer server;
  WorkloadProgram program = TwoTurns();
  program.session = "\xff not UTF-8";
  Workload workload = Of({program});
  workload.tools = {std::string("\xff") + std::string(300, 'x')};
  Replay(server, workload);
  ASSERT_EQ(server.asked().size(), 2u);
  EXPECT_EQ(server.asked()[0].request.options().session_id(), "program 0");
  EXPECT_EQ(server.asked()[0].request.options().tool_hint().name(), "_" + std::string(127, 'x'));
}

CommandLine LineOf(std::vector<CommandLine::Argument> arguments) {
  return {.verb = Verb::kReplay, .arguments = std::move(arguments)};
}

TEST(ReplayArgumentsTest, OnlyThisMachineIsAskedUnlessItMayBeAnother) {
  EXPECT_EQ(ReplayTargetOf(LineOf({}))->address, "127.0.0.1:50051");
  EXPECT_EQ(ReplayTargetOf(LineOf({{"--server", "localhost:7"}}))->address, "localhost:7");
  EXPECT_THAT(std::string(ReplayTargetOf(LineOf({{"--server", "host:7"}})).status().message()),
              HasSubstr("host:7 is not on this machine"));
  const auto remote = ReplayTargetOf(
      LineOf({{"--server", "host:7"}, {"--allow-remote", "true"}, {"--tls-ca", "ca.pem"}}));
  ASSERT_TRUE(remote.ok());
  EXPECT_EQ(remote->tls_ca, "ca.pem");
}

TEST(ReplayArgumentsTest, KeysAreReadByTenant) {
  const auto keys = ParseKeys("# ours\nbob  b-key\n\n* other # for all others\n", {"alice", "bob"});
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_THAT(*keys, ElementsAre("other", "b-key"));
  EXPECT_THAT(std::string(ParseKeys("bob", {"bob"}).status().message()), HasSubstr("line 1"));
  EXPECT_THAT(std::string(ParseKeys("bob key\n", {"alice"}).status().message()),
              HasSubstr("no key for tenant alice"));
}

}  // namespace
}  // namespace holdfast
