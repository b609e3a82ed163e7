// Traces of single requests: Azure's CSV, and JSON lines with block ids.
#include "config/base/concat.h"
#include "gtest/gtest.h"
#include "trace_file.h"
#include "workload/line_file.h"
#include "workload/token_runs.h"

namespace holdfast {
namespace {

TEST(AzureTest, BothHeadersAreRead) {
  const Workload slim =
      WorkloadOf("t_s,context_tokens,generated_tokens\n0.000,480,10\n0.125,70,0\n2.5,90,7\n");
  ExpectSound(slim);
  ASSERT_EQ(slim.programs.size(), 2u);
  EXPECT_EQ(slim.programs[1].start, absl::Milliseconds(2500));
  EXPECT_EQ(PromptTokens(slim.programs[0].turns[0]), 480);
  EXPECT_EQ(Dropped(slim, "zero_output"), 1);

  const Workload original = WorkloadOf(
      "TIMESTAMP,ContextTokens,GeneratedTokens\n"
      "2024-05-10 00:00:00.9000000,480,10\n"
      "2024-05-09 23:59:59.6500000,90,7\n"
      "yesterday,90,7\n");
  ExpectSound(original);
  ASSERT_EQ(original.programs.size(), 2u);
  EXPECT_EQ(PromptTokens(original.programs[0].turns[0]), 90);  // by time
  EXPECT_EQ(original.programs[1].start, absl::Milliseconds(1250));
  EXPECT_EQ(Dropped(original, "bad_number"), 1);
}

TEST(AzureTest, StampsAreTakenAsTheyAre) {
  const Workload workload =
      WorkloadOf("t_s,context_tokens,generated_tokens\n1,1,1\n1,1,1\n2,1,1\n");
  EXPECT_EQ(workload.programs[1].start, absl::ZeroDuration());
}

constexpr std::string_view kMooncake =
    "{\"timestamp\":0,\"input_length\":1200,\"output_length\":50,\"hash_ids\":[4,8,15]}\n"
    "{\"timestamp\":3000,\"input_length\":1500,\"output_length\":7,\"hash_ids\":[4,8,16]}\n"
    "{\"timestamp\":6000,\"input_length\":1200,\"output_length\":9,\"hash_ids\":[4,8,15]}\n"
    "{\"timestamp\":6000,\"input_length\":1024,\"output_length\":9,\"hash_ids\":[23,42]}\n";

TEST(BlockIdsTest, EqualIdsAreEqualTokensAndNothingElseIs) {
  const Workload workload = WorkloadOf(kMooncake);
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 4u);
  absl::StatusOr<TokenRuns> runs = TokenRuns::Make({.vocabulary = 49152});
  ASSERT_TRUE(runs.ok());
  std::vector<std::vector<TokenId>> prompts(4);
  for (size_t i = 0; i < 4; ++i) runs->Append(workload.programs[i].turns[0].runs, prompts[i]);
  EXPECT_EQ(prompts[0].size(), 1200u);
  EXPECT_EQ(prompts[1].size(), 1500u);
  EXPECT_EQ(prompts[3].size(), 1024u);
  EXPECT_EQ(prompts[0], prompts[2]);  // the last block in part too
  const auto common = [&](size_t a, size_t b) {
    return std::mismatch(prompts[a].begin(), prompts[a].end(), prompts[b].begin(), prompts[b].end())
               .first -
           prompts[a].begin();
  };
  EXPECT_EQ(common(0, 1), 1024);
  EXPECT_EQ(common(0, 3), 0);
  EXPECT_EQ(workload.programs[1].start, absl::Seconds(3));
}

TEST(BlockIdsTest, WhatIsLeftWithoutAnIdIsNobodyElses) {
  const Workload workload = WorkloadOf(
      "{\"timestamp\":10,\"input_length\":1100,\"output_length\":5,\"hash_ids\":[0],"
      "\"ttfb_ms\":3.5,\"shard\":1}\n"
      "{\"timestamp\":10,\"input_length\":1100,\"output_length\":0,\"hash_ids\":[0],"
      "\"ttfb_ms\":3.5,\"shard\":1}\n"
      "{\"timestamp\":20,\"input_length\":1100,\"output_length\":5,\"hash_ids\":[0],"
      "\"ttfb_ms\":3.5,\"shard\":1}\n"
      "{\"timestamp\":30,\"input_length\":93,\"output_length\":5,\"hash_ids\":[],"
      "\"ttfb_ms\":3.5,\"shard\":1}\n");
  ExpectSound(workload);
  ASSERT_EQ(workload.programs.size(), 3u);
  const std::vector<TokenRun>& one = workload.programs[0].turns[0].runs;
  const std::vector<TokenRun>& other = workload.programs[1].turns[0].runs;
  ASSERT_EQ(one.size(), 2u);
  EXPECT_EQ(one[0], other[0]);
  EXPECT_EQ(one[0].num_tokens, 1024);
  EXPECT_NE(one[1].id, other[1].id);
  EXPECT_EQ(workload.programs[2].turns[0].runs.size(), 1u);
  EXPECT_EQ(Dropped(workload, "zero_output"), 1);
}

TEST(BlockIdsTest, RowsWhoseIdsDoNotFitTheirLengthAreDropped) {
  const Workload workload = WorkloadOf(
      "{\"timestamp\":0,\"input_length\":1200,\"output_length\":50,\"hash_ids\":[4]}\n"
      "{\"timestamp\":0,\"input_length\":100,\"output_length\":50,\"hash_ids\":[4,5]}\n"
      "{\"timestamp\":0,\"input_length\":100,\"output_length\":50,\"hash_ids\":[-4]}\n"
      "{\"timestamp\":0,\"input_length\":100,\"output_length\":50,\"hash_ids\":[\"a\"]}\n"
      "{\"timestamp\":0,\"input_length\":100,\"output_length\":50,\"hash_ids\":7}\n"
      "{\"timestamp\":0,\"input_length\":1e99,\"output_length\":50,\"hash_ids\":[4]}\n"
      "{\"timestamp\":-1,\"input_length\":100,\"output_length\":50,\"hash_ids\":[4]}\n"
      "{\"timestamp\":0,\"input_length\":100\n"
      "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n"
      "{\"timestamp\":0,\"input_length\":100,\"output_length\":50,"
      "\"hash_ids\":[18446744073709551615]}\n");
  ExpectSound(workload);
  EXPECT_EQ(workload.counts.rows_read, 10);
  EXPECT_EQ(workload.programs.size(), 1u);
  EXPECT_EQ(Dropped(workload, "block_count"), 2);
  EXPECT_EQ(Dropped(workload, "bad_number"), 3);
  EXPECT_EQ(Dropped(workload, "negative_time"), 1);
  EXPECT_EQ(Dropped(workload, "bad_row"), 3);
}

TEST(WorkloadFileTest, ALineThatIsTooLongIsPassedOverAndCounted) {
  std::string text(kMooncake);
  text.append("{\"timestamp\":0,\"x\":\"").append(kLineBytesMax, 'x').append("\"}\n");
  text.append(kMooncake);
  const Workload workload = WorkloadOf(text);
  ExpectSound(workload);
  EXPECT_EQ(workload.counts.rows_kept, 8);
  EXPECT_EQ(Dropped(workload, "long_line"), 1);
}

TEST(WorkloadFileTest, TheFilesHashIsOfItsBytes) {
  EXPECT_EQ(WorkloadOf("t_s,context_tokens,generated_tokens\n").counts.file_sha256,
            "5cfecaf3be5a0c1d5a92394be48dc6752252a047e988896d3d99e6484643049b");  // by sha256sum
}

TEST(WorkloadFileTest, FilesOfNoKnownKindAreRefusedWithWhatIsWanted) {
  for (const std::string_view text :
       {"", "\n\n", "a,b,c\n1,2,3\n", "{\"x\":1}\n", "{\"calls\":[]}\n", "\x1f\x8b\x08 nonsense"}) {
    const TraceFile file(text);
    const absl::StatusOr<Workload> workload = ReadWorkload(file.path());
    EXPECT_FALSE(workload.ok()) << text;
  }
  EXPECT_EQ(ReadWorkload("/nonexistent/file.csv").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(ReadWorkload(testing::TempDir()).ok());
}

TEST(WorkloadFileTest, AGzipFileThatIsCutOffIsAnErrorAndNotAShorterTrace) {
  std::string text = "t_s,context_tokens,generated_tokens\n";
  for (int i = 0; i < 5000; ++i) text.append(Concat(i, ".25,", i * 7919 % 4000 + 1, ",3\n"));
  const std::string packed = Gzipped(text);
  EXPECT_EQ(WorkloadOf(packed).counts.rows_kept, 5000);
  const TraceFile cut(std::string_view(packed).substr(0, packed.size() / 2));
  EXPECT_EQ(ReadWorkload(cut.path()).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace holdfast
