// Sessions of agents: what a call keeps of the one before, and what it waits for.
#include "config/base/concat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trace_file.h"

namespace holdfast {
namespace {

constexpr std::string_view kSteps =
    R"({"session":"b","model":"m","run":"r","start_s":40.5,"steps":[)"
    R"({"prompt_tokens":1000,"cached_tokens":null,"output_tokens":60,"reasoning_tokens":null,)"
    R"("tools":["bash"],"cmd":["grep"],"tool_s":0.25},)"
    R"({"prompt_tokens":1400,"cached_tokens":null,"output_tokens":30,"reasoning_tokens":null,)"
    R"("tools":["todo"],"cmd":[null],"tool_s":3},)"
    R"({"prompt_tokens":1410,"cached_tokens":null,"output_tokens":5,"reasoning_tokens":0,)"
    R"("tools":[],"cmd":[],"tool_s":0.5},)"
    R"({"prompt_tokens":700,"cached_tokens":512,"output_tokens":9,"reasoning_tokens":0,)"
    R"("tools":["bash"],"cmd":["grep"],"tool_s":1},)"
    R"({"prompt_tokens":650,"cached_tokens":null,"output_tokens":9,"reasoning_tokens":0,)"
    R"("tools":["bash"],"cmd":["ls"],"tool_s":1}]})"
    "\n"
    R"({"session":"a","model":"m","run":"r","start_s":10,"steps":[)"
    R"({"prompt_tokens":800,"cached_tokens":0,"output_tokens":90,"reasoning_tokens":64,)"
    R"("tools":["bash"],"cmd":["ls"],"tool_s":120},)"
    R"({"prompt_tokens":900,"cached_tokens":0,"output_tokens":90,"reasoning_tokens":64,)"
    R"("tools":["bash"],"cmd":["ls"],"tool_s":2}]})"
    "\n";

TEST(AgentStepsTest, ACallKeepsThePromptAndTheAnswerBeforeItAsFarAsLengthsAllow) {
  const Workload workload = WorkloadOf(kSteps);
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 2u);
  EXPECT_EQ(workload.programs[0].session, "a");
  EXPECT_EQ(workload.programs[1].start, absl::Milliseconds(30500));
  const std::vector<WorkloadTurn>& turns = workload.programs[1].turns;
  ASSERT_EQ(turns.size(), 5u);
  EXPECT_EQ(turns[0].kept_tokens, 0);
  EXPECT_EQ(turns[1].kept_tokens, 1060);  // prompt and answer
  EXPECT_EQ(turns[1].runs[0].num_tokens, 340);
  EXPECT_EQ(turns[2].kept_tokens, 1400);  // ten more tokens cannot hold the answer of 30
  EXPECT_EQ(turns[3].kept_tokens, 512);   // shrunk: what the source's cache found
  EXPECT_EQ(turns[4].kept_tokens, 0);     // shrunk, and it does not say
  EXPECT_THAT(workload.assumptions, testing::Contains(testing::HasSubstr("2 prompts are shorter")));
}

TEST(AgentStepsTest, ReasoningIsNotSentBack) {
  const Workload workload = WorkloadOf(kSteps);
  const std::vector<WorkloadTurn>& turns = workload.programs[0].turns;
  EXPECT_EQ(turns[1].kept_tokens, 800);
  EXPECT_EQ(turns[1].completion_tokens, 90);
}

TEST(AgentStepsTest, ACallWaitsForTheToolThatTheOneBeforeCalled) {
  const Workload workload = WorkloadOf(kSteps);
  const std::vector<WorkloadTurn>& turns = workload.programs[1].turns;
  const auto tool = [&](size_t i) {
    return turns[i].tool ? workload.tools[static_cast<size_t>(*turns[i].tool)] : "";
  };
  EXPECT_EQ(tool(0), "grep");
  EXPECT_EQ(tool(1), "todo");
  EXPECT_EQ(tool(2), "");
  EXPECT_EQ(turns[0].after, absl::ZeroDuration());
  EXPECT_EQ(turns[1].after, absl::Milliseconds(250));
  EXPECT_EQ(turns[2].after, absl::Seconds(3));
  EXPECT_EQ(turns[3].after, absl::Milliseconds(500));
}

TEST(AgentStepsTest, OneBadCallCostsItselfAndABadSessionAllOfItsCalls) {
  std::string text(kSteps);
  text.append(R"({"session":"c","start_s":1,"steps":[)"
              R"({"prompt_tokens":100,"output_tokens":10,"tool_s":1},)"
              R"({"prompt_tokens":"many","output_tokens":10,"tool_s":1},7,)"
              R"({"prompt_tokens":0,"output_tokens":10,"tool_s":1},)"
              R"({"prompt_tokens":150,"output_tokens":0,"tool_s":1},)"
              R"({"prompt_tokens":150,"output_tokens":5,"tool_s":-1},)"
              R"({"prompt_tokens":150,"output_tokens":5,"tool_s":1}]})"
              "\n"
              R"({"session":"d","start_s":null,"steps":[{},{},{}]})"
              "\n"
              R"({"session":"e","start_s":1,"steps":[]})"
              "\n{\n");
  const Workload workload = WorkloadOf(text);
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 3u);
  EXPECT_EQ(workload.counts.rows_read, 7 + 7 + 3 + 1 + 1);
  EXPECT_EQ(workload.counts.rows_kept, 7 + 2);
  EXPECT_EQ(Dropped(workload, "bad_number"), 2 + 3);
  EXPECT_EQ(Dropped(workload, "bad_row"), 2);
  EXPECT_EQ(Dropped(workload, "zero_input"), 1);
  EXPECT_EQ(Dropped(workload, "zero_output"), 1);
  EXPECT_EQ(Dropped(workload, "no_calls"), 1);
  EXPECT_EQ(workload.programs[0].session, "c");
  EXPECT_EQ(workload.programs[0].turns[1].kept_tokens, 110);
}

constexpr std::string_view kCalls =
    R"({"session":"s0","repo":"x","start_s":3,"n_calls":3,"calls":[)"
    R"([0,1000,0,40,60,9,"ls",500],[9,1500,0,100,0,3,"pytest",9],[12,1650,0,5,0,null,"cat",1]]})"
    "\n"
    R"({"session":"s1","repo":"x","start_s":3,"n_calls":1,"calls":[[0,900,0,40,60,null,"ls",5]]})"
    "\n";

TEST(AgentCallsTest, AToolsTimeIsTheGapLessTheAnswersTime) {
  const Workload workload = WorkloadOf(kCalls);
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 2u);
  const std::vector<WorkloadTurn>& turns = workload.programs[0].turns;
  ASSERT_EQ(turns.size(), 3u);
  EXPECT_EQ(turns[0].completion_tokens, 100);  // reasoning was generated too
  EXPECT_EQ(turns[1].after, absl::Seconds(9 - 2 - 1));
  EXPECT_EQ(turns[2].after, absl::ZeroDuration());  // 3 s: all of it the answer's
  EXPECT_EQ(turns[1].kept_tokens, 1000);            // the answer held reasoning
  EXPECT_EQ(turns[2].kept_tokens, 1600);
  EXPECT_EQ(workload.tools, (std::vector<std::string>{"ls", "pytest", "cat"}));
  EXPECT_THAT(workload.assumptions, testing::Contains(testing::HasSubstr("taken as 2 s")));
}

TEST(AgentCallsTest, TheAnswersTimeCanBeSaidOtherwise) {
  const Workload workload =
      WorkloadOf(kCalls, {.answer_base = absl::ZeroDuration(), .answer_tokens_per_second = 1e9});
  EXPECT_NEAR(absl::ToDoubleSeconds(workload.programs[0].turns[1].after), 9, 1e-6);
}

TEST(AgentCallsTest, SessionsThatBeginInOneSecondAreSpreadOverIt) {
  const Workload workload = WorkloadOf(kCalls);
  EXPECT_GT(workload.programs[1].start, absl::ZeroDuration());
  EXPECT_LT(workload.programs[1].start, absl::Seconds(1));
}

TEST(AgentLogTest, AToolsTimeIsTheGapBetweenAnswersLessTheSecondOnes) {
  const Workload workload =
      WorkloadOf(R"({"session":"x","benchmark":"b","start_s":0,"calls":[[1,100,10,1,"success"],)"
                 R"([9.5,200,50,3,"success"],["soon",1,1,5,"success"],[10,200,0,5,"error"],)"
                 R"([11,260,20,5,"success"]]})");
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 1u);
  const std::vector<WorkloadTurn>& turns = workload.programs[0].turns;
  ASSERT_EQ(turns.size(), 3u);
  EXPECT_EQ(turns[1].after, absl::Seconds(8.5 - 2 - 0.5));
  EXPECT_EQ(turns[1].kept_tokens, 110);
  EXPECT_EQ(turns[2].after, absl::ZeroDuration());
  EXPECT_EQ(turns[2].kept_tokens, 250);
  EXPECT_EQ(Dropped(workload, "bad_number"), 1);
  EXPECT_EQ(Dropped(workload, "zero_output"), 1);
}

TEST(DialoguesTest, TheAssistantsMessagesAreCallsAndWaitForWhatStandsBetweenThem) {
  const Workload workload = WorkloadOf(
      R"({"session":"d","domain":"shop","start_s":7,"messages":[)"
      R"({"role":"assistant","t":0.1,"content":"Hello"},)"
      R"({"role":"user","t":2,"content":"a","usage":{"prompt_tokens":9,"completion_tokens":9}},)"
      R"({"role":"assistant","t":3,"usage":{"prompt_tokens":300,"completion_tokens":20},)"
      R"("tool_calls":[{"name":"look_up"},{"name":"other"}]},)"
      R"({"role":"tool","t":3.5,"content":"b"},{"role":"tool","t":4.25,"content":"c"},)"
      R"({"role":"assistant","t":6,"usage":{"prompt_tokens":400,"completion_tokens":30}},)"
      R"({"role":"user","t":5,"content":"late"},)"
      R"({"role":"assistant","t":9,"usage":{"prompt_tokens":"?","completion_tokens":30}},)"
      R"({"role":"assistant","t":9,"usage":{"prompt_tokens":440,"completion_tokens":1}}]})"
      "\n"
      R"({"session":"e","start_s":7,"messages":[{"role":"user","t":2}]})");
  ExpectSound(workload);
  EXPECT_EQ(workload.counts.rows_read, 4 + 1);
  EXPECT_EQ(Dropped(workload, "bad_number"), 1);
  EXPECT_EQ(Dropped(workload, "no_calls"), 1);
  ASSERT_EQ(workload.programs.size(), 1u);
  const std::vector<WorkloadTurn>& turns = workload.programs[0].turns;
  ASSERT_EQ(turns.size(), 3u);
  EXPECT_EQ(turns[1].after, absl::Milliseconds(1250));
  EXPECT_EQ(turns[2].after, absl::ZeroDuration());
  EXPECT_EQ(turns[1].kept_tokens, 320);
  EXPECT_EQ(workload.tools, (std::vector<std::string>{"look_up"}));
}

constexpr std::string_view kEvents =
    R"({"session":"o","events":[{"t":0,"id":0,"source":"agent","kind":"action","name":"system"},)"
    R"({"t":3,"id":5,"name":"run","cmd":"ls","prompt_tokens_total":500,)"
    R"("completion_tokens_total":40},)"
    R"({"t":3.6,"id":6,"name":"run","cause":5},)"
    R"({"t":6,"id":7,"name":"edit","prompt_tokens_total":1200,"completion_tokens_total":60},)"
    R"({"t":6.5,"id":8,"name":"edit","prompt_tokens_total":1200,"completion_tokens_total":60},)"
    R"({"t":7,"id":9,"cause":8},{"t":8,"id":10,"cause":7},{"t":90,"id":11,"cause":5},)"
    R"({"t":12,"id":12,"name":"error"},)"
    R"({"t":14,"id":13,"name":"finish","prompt_tokens_total":2000,)"
    R"("completion_tokens_total":70}]})"
    "\n";

TEST(AgentEventsTest, ACallIsWhatTheSumsGrowBy) {
  const Workload workload = WorkloadOf(kEvents);
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 1u);
  EXPECT_EQ(workload.programs[0].session, "o");
  EXPECT_EQ(workload.programs[0].start, absl::ZeroDuration());
  const std::vector<WorkloadTurn>& turns = workload.programs[0].turns;
  ASSERT_EQ(turns.size(), 3u);  // two actions of one answer are one call
  EXPECT_EQ(PromptTokens(turns[0]), 500);
  EXPECT_EQ(PromptTokens(turns[1]), 700);
  EXPECT_EQ(PromptTokens(turns[2]), 800);
  EXPECT_EQ(turns[0].completion_tokens, 40);
  EXPECT_EQ(turns[1].completion_tokens, 20);
  EXPECT_EQ(turns[1].kept_tokens, 540);
  EXPECT_EQ(workload.tools, (std::vector<std::string>{"ls", "edit", "finish"}));
  EXPECT_THAT(workload.assumptions, testing::Contains(testing::HasSubstr("begin at once")));
}

TEST(AgentEventsTest, TheNextCallWaitsForAllThatTheCallsActionsCaused) {
  const Workload workload = WorkloadOf(kEvents);
  const std::vector<WorkloadTurn>& turns = workload.programs[0].turns;
  EXPECT_EQ(turns[1].after, absl::Milliseconds(600));
  EXPECT_EQ(turns[2].after, absl::Seconds(2));  // not the 0.5 s of the other, nor what came late
}

TEST(AgentEventsTest, ACallWhoseSumsFallIsDroppedAndTheNextCountsFromThere) {
  const Workload workload =
      WorkloadOf(R"({"session":"o","events":[)"
                 R"({"t":1,"id":1,"prompt_tokens_total":500,"completion_tokens_total":40},)"
                 R"({"t":2,"id":2,"prompt_tokens_total":300,"completion_tokens_total":50},)"
                 R"({"t":3,"id":3,"prompt_tokens_total":900,"completion_tokens_total":50},)"
                 R"({"t":4,"id":4,"prompt_tokens_total":1500,"completion_tokens_total":60}]})");
  ExpectSound(workload);
  EXPECT_EQ(workload.counts.rows_read, 4);
  EXPECT_EQ(Dropped(workload, "bad_number"), 1);
  EXPECT_EQ(Dropped(workload, "zero_output"), 1);
  ASSERT_EQ(workload.programs[0].turns.size(), 2u);
  EXPECT_EQ(PromptTokens(workload.programs[0].turns[1]), 600);
}

std::string TextCall(std::string_view session, double t_s, std::string_view prompt,
                     std::string_view output) {
  return Concat(R"({"session":")", session, R"(","t_s":)", t_s, R"(,"prompt":")", prompt,
                R"(","output":")", output, "\"}\n");
}

TEST(AgentTextsTest, PromptsShareTheBlocksThatTheyBeginWithAlsoBetweenSessions) {
  const std::string common(200, 'a'), other(100, 'b'), answer(40, 'c');
  const Workload workload = WorkloadOf(
      TextCall("x", 0, common, answer) + TextCall("x", 10, common + other, answer) +
      TextCall("y", 0, common + other + other, "d") + TextCall("y", 10, other + common, "d"));
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 2u);
  const std::vector<WorkloadTurn>& x = workload.programs[0].turns;
  const std::vector<WorkloadTurn>& y = workload.programs[1].turns;
  EXPECT_EQ(PromptTokens(x[0]), 50);  // a token is four bytes
  EXPECT_EQ(x[0].completion_tokens, 10);
  EXPECT_EQ(PromptTokens(x[1]), 75);
  EXPECT_EQ(x[1].kept_tokens, 48);  // three blocks of 16 tokens
  EXPECT_EQ(y[0].runs.size(), 7u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(y[0].runs[i], x[0].runs[i]) << i;
  EXPECT_EQ(y[0].runs[3], x[1].runs[0]);
  EXPECT_EQ(y[1].kept_tokens, 0);  // the same text at another place is another one
  EXPECT_NE(y[1].runs[2], x[0].runs[2]);
}

TEST(AgentTextsTest, CallsOfASessionComeByTheirTimeAndWaitForTheGapLessTheAnswer) {
  const std::string answer(800, 'c');
  const Workload workload = WorkloadOf(TextCall("x", 0, "first of the file", answer) +
                                       TextCall("x", 9, "the last", answer) +
                                       TextCall("y", 4, "", answer) + TextCall("y", 5, "p", "") +
                                       TextCall("x", -2.5, "sent before it", answer) + "{}\n");
  ExpectSound(workload);
  EXPECT_EQ(Dropped(workload, "zero_input"), 1);
  EXPECT_EQ(Dropped(workload, "zero_output"), 1);
  EXPECT_EQ(Dropped(workload, "bad_row"), 1);
  ASSERT_EQ(workload.programs.size(), 1u);
  const std::vector<WorkloadTurn>& turns = workload.programs[0].turns;
  ASSERT_EQ(turns.size(), 3u);
  EXPECT_EQ(turns[1].after, absl::ZeroDuration());      // 2.5 s, an answer's 4 s
  EXPECT_EQ(turns[2].after, absl::Seconds(9 - 2 - 2));  // 200 tokens at 100/s
}

TEST(AgentTextsTest, ReadsXzAndSaysWhatIsWrongWithIt) {
  const std::string text = TextCall("x", 0, "a prompt", "an answer");
  EXPECT_EQ(LinesOf(WorkloadOf(Xzipped(text))), LinesOf(WorkloadOf(text)));
  EXPECT_EQ(WorkloadOf(Xzipped(text) + Xzipped(TextCall("x", 9, "p", "a"))).num_turns(), 2);
  const std::string packed = Xzipped(text);
  for (const size_t left : {size_t{13}, packed.size() / 2, packed.size() - 1}) {
    const TraceFile file(packed.substr(0, left));
    const absl::Status status = ReadWorkload(file.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << left;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("end too early")) << left;
  }
  const TraceFile file(packed + "no xz");
  EXPECT_EQ(ReadWorkload(file.path()).status().code(), absl::StatusCode::kDataLoss);
}

TEST(AgentSessionsTest, SessionsOfOneNameAreToldApart) {
  std::string text(kCalls);
  const Workload workload = WorkloadOf(text.append(kCalls));
  std::vector<std::string> names;
  for (const WorkloadProgram& program : workload.programs) names.push_back(program.session);
  EXPECT_THAT(names, testing::UnorderedElementsAre("s0", "s1", "s0#2", "s1#2"));
}

}  // namespace
}  // namespace holdfast
