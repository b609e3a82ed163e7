// Whatever a file holds: no crash, every row accounted for, a sound workload or a clear refusal.
#include <random>

#include "gtest/gtest.h"
#include "trace_file.h"

namespace holdfast {
namespace {

struct Sample {
  const char* name;
  std::string text;
};

std::vector<Sample> Samples() {
  return {
      {"a.csv",
       "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log "
       "Type\n10,7,4,ChatGPT,100,50,150,Conversation log\n11,,9,GPT-4,300,30,330,API log\n"
       "40,7,5,ChatGPT,220,10,230,Conversation log\n40,,5,\"Chat,GPT\",0,0,0,API log\n"},
      {"b.csv",
       "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.9000000,480,10\n"
       "2024-05-09 23:59:59.6500000,90,7\n"},
      {"c.jsonl",
       "{\"timestamp\":0,\"input_length\":1200,\"output_length\":50,\"hash_ids\":[4,8,15]}\n"
       "{\"timestamp\":3000,\"input_length\":1500,\"output_length\":7,\"hash_ids\":[4,8,16]}\n"},
      {"d.jsonl",
       R"({"session":"b","start_s":4,"steps":[{"prompt_tokens":10,"cached_tokens":3,)"
       R"("output_tokens":6,"reasoning_tokens":0,"tools":["bash"],"cmd":["ls"],"tool_s":0.5},)"
       R"({"prompt_tokens":20,"output_tokens":6,"tools":[],"cmd":[],"tool_s":1}]})"
       "\n"},
      {"e.jsonl", R"({"session":"s","repo":"x","start_s":3,"calls":[[0,10,0,4,6,9,"ls",5],)"
                  R"([9,15,9,1,0,3,"cat",9],[12,5,2,5,0,null,"cat",1]]})"
                  "\n"},
      {"h.jsonl", R"({"session":"x","benchmark":"b","start_s":0,"calls":[[1,100,10,1,"ok"],)"
                  R"([9.5,200,50,3,"ok"],[11,60,20,5,"ok"]]})"
                  "\n"},
      {"i.jsonl",
       R"({"session":"d","start_s":7,"messages":[{"role":"user","t":2},)"
       R"({"role":"assistant","t":3,"usage":{"prompt_tokens":30,"completion_tokens":2},)"
       R"("tool_calls":[{"name":"look_up"}]},{"role":"tool","t":3.5},)"
       R"({"role":"assistant","t":6,"usage":{"prompt_tokens":40,"completion_tokens":3}}]})"
       "\n"},
      {"j.jsonl",
       R"({"session":"o","events":[{"t":0,"id":0,"source":"agent","kind":"action"},)"
       R"({"t":1,"id":1,"prompt_tokens_total":30,"completion_tokens_total":4,"cmd":"ls"},)"
       R"({"t":2.5,"id":2,"cause":1},)"
       R"({"t":3,"id":3,"prompt_tokens_total":70,"completion_tokens_total":9,"name":"edit"}]})"
       "\n"},
      {"k.jsonl", R"({"session":"m","t_s":1,"prompt":"Find whales off Maui.","output":"Yes."})"
                  "\n"
                  R"({"session":"m","t_s":9,"prompt":"Find whales off Maui at sunset, and say )"
                  R"(which tour costs less than a hundred.","output":"The one at six."})"
                  "\n"},
      {"f.jsonl", R"({"meta":true,"window_s":10,"token_window_s":10,"quantiles":[0.1,0.9]})"
                  "\n"
                  R"({"client":"c","rate":[2,6],"cv":[1,9],"tokens":{"0":{"input_tokens":[10,20],)"
                  R"("output_tokens":[1,3]}}})"
                  "\n"},
      {"g.yaml",
       "name: x\ntenants: [a, b]\nprograms:\n  - tenant: a\n    session: s\n    at: [0, 3]\n"
       "    turns:\n      - {prompt: [{run: r, tokens: 60}, 15], completion: 4, tool: t}\n"
       "      - {after: 2.5, keep: 10, prompt: 9, repeat: 3}\n"
       "  - {tenant: b, repeat: 9, arrivals: {process: gamma, rate: 5, cv: 2}, "
       "turns: [{prompt: 5}]}\n"},
  };
}

std::string Damaged(std::string text, std::mt19937& rng) {
  static constexpr std::string_view kOdd =
      "\"'[]{}:,.-+eE0123456789\n\r\t\\&*!|>%@ \xff\xc3\x80nulltrue";
  const int changes = 1 + static_cast<int>(rng() % 4);
  for (int i = 0; i < changes && !text.empty(); ++i) {
    const size_t at = rng() % text.size();
    switch (rng() % 5) {
      case 0:
        text.resize(at);
        break;
      case 1:
        text[at] = kOdd[rng() % kOdd.size()];
        break;
      case 2:
        text.erase(at, rng() % 20);
        break;
      case 3:
        text.insert(at, 1 + rng() % 30, kOdd[rng() % kOdd.size()]);
        break;
      case 4:
        text.insert(at, text.substr(rng() % text.size(), rng() % 60));
        break;
    }
  }
  return text;
}

TEST(DamagedFilesTest, AreReadWithEveryRowAccountedForOrRefused) {
  constexpr uint32_t kRounds = 150;
  int num_read = 0, num_refused = 0;
  for (const Sample& sample : Samples()) {
    ExpectSound(WorkloadOf(sample.text, {}, sample.name));
    for (uint32_t seed = 0; seed < kRounds; ++seed) {
      SCOPED_TRACE(testing::Message() << sample.name << " seed " << seed);
      std::mt19937 rng(seed);
      std::string text = Damaged(sample.text, rng);
      if (seed % 5 == 0) text = Damaged(Gzipped(text), rng);
      if (seed % 5 == 1) text = Damaged(Xzipped(text), rng);
      WorkloadOptions options{.seed = seed, .rate_scale = seed % 3 == 0 ? 0.5 : 1};
      options.programs_max = 10'000;
      if (seed % 2 == 0) options.context_tokens = 64;
      if (seed % 4 == 0) options.over_context = WorkloadOptions::OverContext::kClip;
      if (seed % 7 == 0) options.length_scale = 0.1;
      const TraceFile file(text, sample.name);
      const absl::StatusOr<Workload> workload = ReadWorkload(file.path(), options);
      ++(workload.ok() ? num_read : num_refused);
      if (workload.ok()) {
        ExpectSound(*workload);
        LinesOf(*workload);
      } else {
        EXPECT_FALSE(workload.status().message().empty());
      }
    }
  }
  EXPECT_GT(num_read, 200);
  EXPECT_GT(num_refused, 50);
}

}  // namespace
}  // namespace holdfast
