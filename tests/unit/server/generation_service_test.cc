#include "server/generation_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <deque>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "config/base/metrics.h"
#include "scheduler/scheduler_loop.h"
#include "tests/unit/server/byte_tokenizer.h"
#include "tests/unit/server/generation_bench.h"
#include "tests/unit/server/stream_reader.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using GenerationServiceTest = GenerationBench;

TEST_F(GenerationServiceTest, AnswersATextFromTokensAndReportsUsage) {
  auto stream = service_->Start(Ask("Hello"));
  const Request request = scheduler_.WaitRequest();
  EXPECT_THAT(request.prompt, ElementsAre('H', 'e', 'l', 'l', 'o'));
  EXPECT_EQ(request.max_tokens, 10);
  EXPECT_THAT(request.stop_tokens, ElementsAre(ByteTokenizer::kEos));
  EXPECT_EQ(service_->running(), 1);
  service_->OnPrompt({.request = request.id, .cached_tokens = 4});
  Say(request, "world", 0, SequenceEnd::kLength);
  Done(request);

  ReadStream read = ReadToEnd(*stream);
  EXPECT_EQ(read.prompt->prompt_tokens, 5);
  EXPECT_EQ(read.prompt->cached_tokens, 4);
  EXPECT_TRUE(read.prompt->tokens.empty());
  EXPECT_EQ(read.choices[0].text, "world");
  EXPECT_EQ(read.choices[0].finish, FinishReason::kLength);
  EXPECT_TRUE(read.done.status.ok());
  EXPECT_EQ(read.done.prompt_tokens, 5);
  EXPECT_EQ(read.done.cached_tokens, 4);
  EXPECT_EQ(read.done.completion_tokens, 5);
  EXPECT_EQ(service_->running(), 0);
}

TEST_F(GenerationServiceTest, EachPieceIsThereAsSoonAsItsTokenIs) {
  auto stream = service_->Start(Ask("Hello"));
  const Request request = scheduler_.WaitRequest();
  for (const char c : std::string("abc")) {
    Say(request, std::string(1, c));
    EXPECT_EQ(std::get<ChoiceDelta>(NextEvent(*stream)).text, std::string(1, c));
  }
  stream->Cancel();
  Done(request, absl::CancelledError(""));
}

TEST_F(GenerationServiceTest, TakesBosAsTheModelAsksForIt) {
  tokenizer_.adds_bos = true;
  auto stream = service_->Start(Ask("x"));
  EXPECT_THAT(scheduler_.WaitRequest().prompt, ElementsAre(ByteTokenizer::kBos, 'x'));
}

TEST_F(GenerationServiceTest, RendersAChatByItsTemplate) {
  GenerationRequest ask = Ask("");
  ask.prompt = ChatInput{.messages_json = "[]"};
  auto stream = service_->Start(std::move(ask));
  EXPECT_THAT(scheduler_.WaitRequest().prompt, ElementsAre('[', ']'));
}

TEST_F(GenerationServiceTest, RefusesWhatTheTemplateRefusesUnderTheNameOfTheWire) {
  for (const FieldNames* names : {&kChatNames, &kResponsesNames}) {
    GenerationRequest ask = Ask("");
    ask.prompt = ChatInput{.messages_json = "bad"};
    ask.names = names;
    auto stream = service_->Start(std::move(ask));
    const absl::Status status = ReadToEnd(*stream).done.status;
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("roles must alternate"));
    EXPECT_EQ(status.GetPayload(kErrorParamUrl), names->prompt);
  }
}

TEST_F(GenerationServiceTest, RefusesAPromptThatFillsTheContext) {
  auto stream = service_->Start(Ask(std::string(kContext, 'x'), std::nullopt));
  const absl::Status status = ReadToEnd(*stream).done.status;
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.GetPayload(kErrorCodeUrl), "context_length_exceeded");
  EXPECT_THAT(std::string(status.message()), HasSubstr("64 tokens"));
  EXPECT_EQ(scheduler_.num_waiting(), 0u);
  EXPECT_EQ(service_->running(), 0);
}

TEST_F(GenerationServiceTest, RefusesATextThatNoTokensOfTheContextCouldSpellUnread) {
  // The longest token has five bytes, and a normaliser may leave a third of a text.
  const size_t bytes_max = 3 * std::string_view("<bos>").size() * kContext;
  auto stream = service_->Start(Ask(std::string(bytes_max + 1, 'x'), 1));
  const absl::Status status = ReadToEnd(*stream).done.status;
  EXPECT_EQ(status.GetPayload(kErrorCodeUrl), "context_length_exceeded");
  EXPECT_THAT(std::string(status.message()), HasSubstr("961 bytes"));
  for (const size_t bytes : {bytes_max, bytes_max + 1}) {
    absl::Notification told;
    service_->Tokenize({}, std::string(bytes, 'x'), true,
                       [&](absl::StatusOr<std::vector<TokenId>> tokens) {
                         EXPECT_EQ(tokens.ok(), bytes == bytes_max) << tokens.status();
                         told.Notify();
                       });
    told.WaitForNotification();
  }
}

TEST_F(GenerationServiceTest, RefusesMaxTokensBeyondTheContextAndFillsItByDefault) {
  auto refused = service_->Start(Ask(std::string(60, 'x'), 5));
  EXPECT_EQ(ReadToEnd(*refused).done.status.GetPayload(kErrorCodeUrl), "context_length_exceeded");
  auto whole = service_->Start(Ask(std::string(60, 'x'), 4));
  EXPECT_EQ(scheduler_.WaitRequest().max_tokens, 4);
  auto by_default = service_->Start(Ask(std::string(60, 'x'), std::nullopt));
  EXPECT_EQ(scheduler_.WaitRequest().max_tokens, 4);
}

TEST_F(GenerationServiceTest, RefusesAnEmptyPromptAndTokensOutsideTheVocabulary) {
  auto empty = service_->Start(Ask(""));
  EXPECT_EQ(ReadToEnd(*empty).done.status.code(), absl::StatusCode::kInvalidArgument);
  GenerationRequest ask = Ask("");
  ask.prompt = std::vector<TokenId>{1, tokenizer_.vocab_size()};
  auto outside = service_->Start(std::move(ask));
  EXPECT_EQ(ReadToEnd(*outside).done.status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GenerationServiceTest, AStopStringEndsTheAnswerAndStopsTheSequence) {
  GenerationRequest ask = Ask("Q");
  ask.stop = {"\nQ:"};
  auto stream = service_->Start(std::move(ask));
  const Request request = scheduler_.WaitRequest();
  Say(request, "yes\nQ: more");
  ReadStream read = ReadToEnd(*stream);
  EXPECT_EQ(read.choices[0].text, "yes");
  EXPECT_EQ(read.choices[0].finish, FinishReason::kStop);
  EXPECT_EQ(read.choices[0].stop_string, "\nQ:");
  EXPECT_EQ(read.done.completion_tokens, 6);
  scheduler_.WaitStopped(request.id, 0);
  EXPECT_EQ(service_->running(), 1) << "its blocks are not back yet";
  EXPECT_EQ(scheduler_.num_cancelled(), 0u) << "a turn that ends well may leave its KV";
  Done(request, absl::OkStatus());
  EXPECT_TRUE(service_->WaitIdle(absl::InfiniteFuture()));
}

TEST_F(GenerationServiceTest, TheToolThatAnAnswerCallsIsNamedOnceAtItsEnd) {
  GenerationRequest ask = Ask("Q");
  ask.num_choices = 2;
  auto stream = service_->Start(std::move(ask));
  const Request request = scheduler_.WaitRequest();
  EXPECT_TRUE(request.names_tool);
  Say(request, "<tool_call>{\"name\": \"read\", \"arguments\": {}}</tool_call>", 0,
      SequenceEnd::kLength);
  EXPECT_EQ(scheduler_.WaitNamed(), std::pair(request.id, std::string("read")));
  Say(request, "<tool_call>{\"name\": \"write\"}</tool_call>", 1, SequenceEnd::kLength);
  Done(request, absl::OkStatus());
  const ReadStream read = ReadToEnd(*stream);
  EXPECT_EQ(read.choices.at(0).text,
            "<tool_call>{\"name\": \"read\", \"arguments\": {}}</tool_call>");
  EXPECT_EQ(scheduler_.num_named(), 0u) << "the first choice's alone";
}

TEST_F(GenerationServiceTest, AnAnswerThatCallsNoToolSaysSoAndAHintOrTokensAloneSayNothing) {
  auto stream = service_->Start(Ask("Q"));
  const Request plain = scheduler_.WaitRequest();
  Say(plain, "no", 0, SequenceEnd::kLength);
  EXPECT_EQ(scheduler_.WaitNamed(), std::pair(plain.id, std::string()));
  Done(plain, absl::OkStatus());
  GenerationRequest ask = Ask("Q");
  ask.tool_hint = {.name = "ls"};
  auto hinted = service_->Start(std::move(ask));
  EXPECT_FALSE(scheduler_.WaitRequest().names_tool);
  GenerationRequest tokens = Ask("Q");
  tokens.want_text = false;
  auto plain_tokens = service_->Start(std::move(tokens));
  EXPECT_FALSE(scheduler_.WaitRequest().names_tool);
}

TEST_F(GenerationServiceTest, OneChoiceMayStopWhileAnotherGoesOn) {
  GenerationRequest ask = Ask("Q");
  ask.num_choices = 2;
  ask.stop = {"."};
  auto stream = service_->Start(std::move(ask));
  const Request request = scheduler_.WaitRequest();
  EXPECT_EQ(request.num_choices, 2);
  Say(request, "a.ignored", 0);
  scheduler_.WaitStopped(request.id, 0);  // at once, while its sibling goes on
  EXPECT_EQ(scheduler_.num_cancelled(), 0u);
  Say(request, "longer", 1, SequenceEnd::kLength);
  ReadStream read = ReadToEnd(*stream);
  EXPECT_EQ(read.choices[0].text, "a");
  EXPECT_EQ(read.choices[1].text, "longer");
  EXPECT_EQ(read.done.completion_tokens, 2 + 6);
}

TEST_F(GenerationServiceTest, StopTokensComeFromModelAndRequestAndAreBannedUntilMinTokens) {
  GenerationRequest ask = Ask("Q");
  ask.stop_token_ids = {'!'};
  ask.sampling.min_tokens = 2;
  auto first = service_->Start(std::move(ask));
  const Request request = scheduler_.WaitRequest();
  EXPECT_THAT(request.stop_tokens, ElementsAre('!', ByteTokenizer::kEos));
  EXPECT_EQ(request.sampling.banned_until_min, request.stop_tokens);

  ask = Ask("Q");
  ask.ignore_eos = true;
  auto second = service_->Start(std::move(ask));
  EXPECT_THAT(scheduler_.WaitRequest().stop_tokens, IsEmpty());
}

TEST_F(GenerationServiceTest, LogprobsBelongToTheTextThatIsShown) {
  GenerationRequest ask = Ask("Q");
  ask.sampling.top_logprobs = 0;
  ask.stop = {"END"};
  auto stream = service_->Start(std::move(ask));
  const Request request = scheduler_.WaitRequest();
  Say(request, "an END");
  ReadStream read = ReadToEnd(*stream);
  std::string spelt;
  for (const auto& token : read.choices[0].logprobs) spelt += token.chosen.bytes;
  EXPECT_EQ(spelt, read.choices[0].text);
  EXPECT_EQ(spelt, "an ");
}

TEST_F(GenerationServiceTest, EchoGivesThePromptAsWrittenWithItsLogprobs) {
  GenerationRequest ask = Ask("abc");
  ask.echo = true;
  ask.prompt_top_logprobs = 1;
  auto stream = service_->Start(std::move(ask));
  const Request request = scheduler_.WaitRequest();
  EXPECT_EQ(request.prompt_top_logprobs, 1);
  PromptEvent event{.request = request.id};
  event.prompt_logprobs = {{.chosen = {'b', -1.0f}, .top = {{'x', -0.5f}}},
                           {.chosen = {'c', -2.0f}, .top = {{'y', -0.5f}}}};
  service_->OnPrompt(std::move(event));
  Say(request, "d", 0, SequenceEnd::kLength);
  Done(request);
  ReadStream read = ReadToEnd(*stream);
  EXPECT_EQ(read.prompt->text, "abc");
  EXPECT_THAT(read.prompt->tokens, ElementsAre('a', 'b', 'c'));
  ASSERT_EQ(read.prompt->logprobs.size(), 3u);
  EXPECT_FALSE(read.prompt->logprobs[0].has_value());
  EXPECT_EQ(read.prompt->logprobs[1]->chosen.bytes, "b");
  EXPECT_EQ(read.prompt->logprobs[2]->top[0].bytes, "y");
}

TEST_F(GenerationServiceTest, EchoWithoutTokensToProduceNeedsNoScheduler) {
  GenerationRequest ask = Ask("abc", 0);
  ask.echo = true;
  auto stream = service_->Start(std::move(ask));
  ReadStream read = ReadToEnd(*stream);
  EXPECT_EQ(read.prompt->text, "abc");
  EXPECT_EQ(read.choices[0].finish, FinishReason::kLength);
  EXPECT_EQ(read.choices[0].text, "");
  EXPECT_EQ(read.done.completion_tokens, 0);
  EXPECT_EQ(scheduler_.num_waiting(), 0u);
}

TEST_F(GenerationServiceTest, TokensInTokensOutNeedsNoText) {
  GenerationRequest ask = Ask("");
  ask.prompt = std::vector<TokenId>{7, 8};
  ask.want_text = false;
  auto stream = service_->Start(std::move(ask));
  const Request request = scheduler_.WaitRequest();
  service_->OnToken({.request = request.id, .token = 0xe2});
  service_->OnToken(
      {.request = request.id, .token = ByteTokenizer::kEos, .end = SequenceEnd::kStopToken});
  Done(request);
  ReadStream read = ReadToEnd(*stream);
  EXPECT_EQ(read.choices[0].text, "");
  EXPECT_THAT(read.choices[0].tokens, ElementsAre(0xe2, ByteTokenizer::kEos));
  EXPECT_EQ(read.choices[0].finish, FinishReason::kStop);
}

TEST_F(GenerationServiceTest, DroppingTheStreamStopsTheSequence) {
  auto stream = service_->Start(Ask("Q"));
  const Request request = scheduler_.WaitRequest();
  Say(request, "a");
  stream.reset();
  scheduler_.WaitCancel(request.id);
  Say(request, "late");
  Done(request, absl::CancelledError(""));
  EXPECT_TRUE(service_->WaitIdle(absl::InfiniteFuture()));
}

TEST_F(GenerationServiceTest, CancelByWireIdReachesOnlyTheTenantsOwnRequests) {
  auto stream = service_->Start(Ask("Q"));
  auto second_prompt = service_->Start(Ask("R"));
  const Request request = scheduler_.WaitRequest();
  const Request other = scheduler_.WaitRequest();
  EXPECT_FALSE(service_->CancelByWireId(TenantIndex{1}, "id"));
  EXPECT_FALSE(service_->CancelByWireId(TenantIndex{0}, "unknown"));
  EXPECT_TRUE(service_->CancelByWireId(TenantIndex{0}, "id"));
  EXPECT_EQ(ReadToEnd(*stream).done.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(ReadToEnd(*second_prompt).done.status.code(), absl::StatusCode::kCancelled);
  scheduler_.WaitCancel(request.id);
  scheduler_.WaitCancel(other.id);
  Done(request, absl::CancelledError(""));
  Done(other, absl::CancelledError(""));
  EXPECT_TRUE(service_->WaitIdle(absl::InfiniteFuture()));
  EXPECT_FALSE(service_->CancelByWireId(TenantIndex{0}, "id"));
}

TEST_F(GenerationServiceTest, CancellingRacesWithStartingAndNothingStays) {
  for (int i = 0; i < 200; ++i) {
    auto stream = service_->Start(Ask("Q"));
    if (i % 2 == 0) stream->Cancel();
    stream.reset();
    while (scheduler_.num_waiting() > 0) Done(scheduler_.WaitRequest(), absl::CancelledError(""));
  }
  // What passed the worker before its cancel came is with the scheduler still.
  while (!service_->WaitIdle(absl::Now() + absl::Milliseconds(1))) {
    while (scheduler_.num_waiting() > 0) Done(scheduler_.WaitRequest(), absl::CancelledError(""));
  }
  EXPECT_EQ(service_->running(), 0);
}

TEST_F(GenerationServiceTest, ARequestThatTakesTooLongIsEnded) {
  auto stream = service_->Start(Ask("Q"));
  const Request request = scheduler_.WaitRequest();
  Say(request, "a");
  EXPECT_EQ(std::get<ChoiceDelta>(NextEvent(*stream)).text, "a");
  clock_.Advance(absl::Seconds(61));
  const ReadStream read = ReadToEnd(*stream);
  EXPECT_EQ(read.done.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(read.done.completion_tokens, 1);
  scheduler_.WaitCancel(request.id);
}

TEST_F(GenerationServiceTest, AFullQueueIsAnAnswerWithRetryAfter) {
  scheduler_.Answer(Admit::kShed);
  scheduler_.retry_after_ms = 12'001;
  auto stream = service_->Start(Ask("Q"));
  const absl::Status status = ReadToEnd(*stream).done.status;
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.GetPayload(kRetryAfterUrl), "13");  // who comes at 12 s finds no place yet
  EXPECT_EQ(service_->running(), 0);
}

TEST_F(GenerationServiceTest, WhatTheSchedulerShedsLaterCarriesRetryAfterToo) {
  auto stream = service_->Start(Ask("Q"));
  Done(scheduler_.WaitRequest(), absl::ResourceExhaustedError("shed"));
  EXPECT_EQ(ReadToEnd(*stream).done.status.GetPayload(kRetryAfterUrl), "1");
}

TEST_F(GenerationServiceTest, TheSchedulersTimeIsToldInWholeSecondsOneAtLeast) {
  const struct {
    absl::Duration after;
    const char* told;
  } kCases[] = {{absl::ZeroDuration(), "1"},
                {absl::Nanoseconds(1), "1"},
                {absl::Seconds(1), "1"},
                {absl::Seconds(1) + absl::Nanoseconds(1), "2"},
                {absl::Minutes(60), "3600"}};
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.after);
    auto stream = service_->Start(Ask("Q"));
    service_->OnDone({.request = scheduler_.WaitRequest().id,
                      .status = absl::ResourceExhaustedError("shed"),
                      .retry_after = c.after});
    EXPECT_EQ(ReadToEnd(*stream).done.status.GetPayload(kRetryAfterUrl), c.told);
  }
}

TEST_F(GenerationServiceTest, WhatIsOverIsToldWithItsSizesAndTimes) {
  GenerationRequest ask = Ask("four");
  ask.tenant = TenantIndex{1};
  ask.trace = TraceContext{.trace = {7}, .sampled = true};
  const absl::Time arrival = clock_.Now();
  auto stream = service_->Start(std::move(ask));
  const Request request = scheduler_.WaitRequest();
  clock_.Advance(absl::Seconds(2));
  service_->OnPrompt({.request = request.id, .cached_tokens = 3});
  Say(request, "ab", 0, SequenceEnd::kLength);
  bool has_finished = false;
  while (!has_finished) {
    const GenerationEvent event = NextEvent(*stream);
    const auto* delta = std::get_if<ChoiceDelta>(&event);
    has_finished = delta != nullptr && delta->finish.has_value();
  }
  clock_.Advance(absl::Seconds(1));
  Done(request, absl::OkStatus(), {.admitted = arrival + absl::Seconds(1), .tool = "ls"});
  const GenerationRecord record = WaitRecord();
  EXPECT_EQ(record.tenant, TenantIndex{1});
  EXPECT_EQ(record.id, "id");
  EXPECT_EQ(record.trace->trace, TraceId{7});
  EXPECT_EQ(record.outcome, Outcome::kOk);
  EXPECT_EQ(record.prompt_tokens, request.prompt.size());
  EXPECT_EQ(record.cached_tokens, 3);
  EXPECT_EQ(record.completion_tokens, 2);
  EXPECT_EQ(record.arrival, arrival);
  EXPECT_EQ(record.times.admitted, arrival + absl::Seconds(1));
  EXPECT_EQ(record.times.tool, "ls");
  EXPECT_EQ(record.first_token, arrival + absl::Seconds(2));
  EXPECT_EQ(record.end, arrival + absl::Seconds(3));
}

TEST_F(GenerationServiceTest, WhatNeverBeganIsToldToo) {
  scheduler_.Answer(Admit::kShed);
  auto stream = service_->Start(Ask("Q"));
  ReadToEnd(*stream);
  const GenerationRecord record = WaitRecord();
  EXPECT_EQ(record.id, "id");
  EXPECT_EQ(record.outcome, Outcome::kShed);
  EXPECT_EQ(record.first_token, absl::InfinitePast());
  EXPECT_EQ(record.times.admitted, absl::InfinitePast());
}

TEST_F(GenerationServiceTest, APriorityBeyondTheTenantsCeilingCountsAsTheCeiling) {
  for (const auto& [asked, given] : {std::pair(-1, 0), std::pair(0, 0), std::pair(7, 7)}) {
    GenerationRequest ask = Ask("Q");
    ask.priority = asked;
    auto stream = service_->Start(std::move(ask));
    const Request request = scheduler_.WaitRequest();
    EXPECT_EQ(request.priority, given);
    Done(request, absl::OkStatus());
  }
}

TEST_F(GenerationServiceTest, WhatAnAgentSaysOfItselfReachesTheScheduler) {
  GenerationRequest ask = Ask("Q");
  ask.offline = true;
  ask.tool_hint = ToolHint{.name = "bash", .expected = absl::Seconds(2)};
  auto stream = service_->Start(std::move(ask));
  const Request request = scheduler_.WaitRequest();
  EXPECT_TRUE(request.offline);
  EXPECT_EQ(request.tool_hint, (ToolHint{.name = "bash", .expected = absl::Seconds(2)}));
  Done(request, absl::OkStatus());
}

TEST_F(GenerationServiceTest, ALostDeviceEndsTheStream) {
  auto stream = service_->Start(Ask("Q"));
  const Request request = scheduler_.WaitRequest();
  Say(request, "a");
  Done(request, absl::UnavailableError("the device failed"));
  ReadStream read = ReadToEnd(*stream);
  EXPECT_EQ(read.choices[0].text, "a");
  EXPECT_EQ(read.done.status.code(), absl::StatusCode::kUnavailable);
}

TEST_F(GenerationServiceTest, DrainingRefusesNewRequestsAndFinishesOld) {
  auto old = service_->Start(Ask("Q"));
  const Request request = scheduler_.WaitRequest();
  service_->BeginDrain();
  auto refused = service_->Start(Ask("R"));
  EXPECT_EQ(ReadToEnd(*refused).done.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(service_->WaitIdle(absl::InfinitePast()));
  Say(request, "done", 0, SequenceEnd::kLength);
  Done(request);
  EXPECT_TRUE(service_->WaitIdle(absl::InfiniteFuture()));
  EXPECT_EQ(ReadToEnd(*old).choices[0].text, "done");
}

TEST_F(GenerationServiceTest, APromptThatWasBeingTokenizedWhenTheDrainBeganIsServed) {
  const auto go_on = HoldPromptWorkers();
  auto stream = service_->Start(Ask("Q"));
  service_->BeginDrain();
  go_on->Notify();
  const Request request = scheduler_.WaitRequest();
  Say(request, "yes", 0, SequenceEnd::kLength);
  Done(request);
  EXPECT_EQ(ReadToEnd(*stream).choices[0].text, "yes");
}

TEST_F(GenerationServiceTest, CancelAllEndsWhatTheDrainLeft) {
  auto stream = service_->Start(Ask("Q"));
  const Request request = scheduler_.WaitRequest();
  service_->CancelAll(absl::UnavailableError("the daemon stops"));
  EXPECT_EQ(ReadToEnd(*stream).done.status.code(), absl::StatusCode::kUnavailable);
  scheduler_.WaitCancel(request.id);
}

TEST_F(GenerationServiceTest, ShutdownLeavesNoReaderWaiting) {
  auto stream = service_->Start(Ask("Q"));
  scheduler_.WaitRequest();
  service_->Shutdown();
  EXPECT_EQ(ReadToEnd(*stream).done.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(service_->running(), 0);
  auto after = service_->Start(Ask("Q"));
  EXPECT_EQ(ReadToEnd(*after).done.status.code(), absl::StatusCode::kUnavailable);
}

TEST_F(GenerationServiceTest, SharesKvInTheDeclaredGroupAndNowhereElse) {
  std::vector<ReuseScope> scopes;
  for (const auto& [tenant, salt] : {std::pair(0, ""), {1, ""}, {2, ""}, {0, "s"}}) {
    GenerationRequest ask = Ask("Q");
    ask.tenant = TenantIndex{tenant};
    ask.cache_salt = salt;
    auto stream = service_->Start(std::move(ask));
    scopes.push_back(scheduler_.WaitRequest().reuse_scope);
  }
  EXPECT_EQ(scopes[0], scopes[1]);
  EXPECT_NE(scopes[0], scopes[2]);
  EXPECT_NE(scopes[0], scopes[3]);
}

TEST_F(GenerationServiceTest, TokenizesAndDetokenizesOffTheCallersThread) {
  absl::Notification done;
  service_->Tokenize({}, "hi", true, [&](absl::StatusOr<std::vector<TokenId>> tokens) {
    EXPECT_THAT(*tokens, ElementsAre('h', 'i'));
    service_->Detokenize({}, *tokens, [&](absl::StatusOr<std::string> text) {
      EXPECT_EQ(*text, "hi");
      service_->Detokenize({}, {-1}, [&](absl::StatusOr<std::string> none) {
        EXPECT_EQ(none.status().code(), absl::StatusCode::kInvalidArgument);
        done.Notify();
      });
    });
  });
  done.WaitForNotification();
  EXPECT_EQ(service_->TokenText('x'), "x");
}

TEST_F(GenerationServiceTest, CountsByTenantAndOutcome) {
  auto stream = service_->Start(Ask("Hello"));
  const Request request = scheduler_.WaitRequest();
  service_->OnPrompt({.request = request.id, .cached_tokens = 4});
  Say(request, "ab", 0, SequenceEnd::kLength);
  Done(request);
  ReadToEnd(*stream);
  const std::string text = metrics_.Serialize();
  const std::string labels = R"({model="tiny",tenant="red"})";
  EXPECT_THAT(text, HasSubstr("holdfast_server_prompt_tokens_total" + labels + " 5"));
  EXPECT_THAT(text, HasSubstr("holdfast_server_cached_tokens_total" + labels + " 4"));
  EXPECT_THAT(text, HasSubstr("holdfast_server_completion_tokens_total" + labels + " 2"));
  EXPECT_THAT(text, HasSubstr("holdfast_server_time_to_first_token_seconds_count" + labels + " 1"));
  EXPECT_THAT(text, HasSubstr("holdfast_server_inter_token_latency_seconds_count" + labels + " 1"));
  EXPECT_THAT(text, HasSubstr("holdfast_server_e2e_latency_seconds_count" + labels + " 1"));
  EXPECT_THAT(text, HasSubstr(R"(holdfast_server_requests_total{model="tiny",outcome="ok",)"
                              R"(tenant="red"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(holdfast_server_requests_running{model="tiny"} 0)"));
}

}  // namespace
}  // namespace holdfast
