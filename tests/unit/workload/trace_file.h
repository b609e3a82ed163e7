// A workload file for one test, gone with the object.
#pragma once

#include <lzma.h>
#include <stdlib.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "workload/workload_file.h"
#include "workload/workload_lines.h"

namespace holdfast {

class TraceFile final {
 public:
  explicit TraceFile(std::string_view text, std::string_view name = "trace.csv") {
    std::string directory = testing::TempDir() + "/holdfast-workload-XXXXXX";
    directory_ = mkdtemp(directory.data());
    path_ = directory_ + "/" + std::string(name);
    std::ofstream(path_, std::ios::binary) << text;
  }
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;
  ~TraceFile() { std::filesystem::remove_all(directory_); }

  const std::string& path() const { return path_; }

 private:
  std::string directory_, path_;
};

inline std::string Gzipped(std::string_view text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(packed.size() - stream.avail_out);
  deflateEnd(&stream);
  return packed;
}

inline std::string Xzipped(std::string_view text) {
  std::string packed(lzma_stream_buffer_bound(text.size()), '\0');
  size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(
                6, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const uint8_t*>(text.data()),
                text.size(), reinterpret_cast<uint8_t*>(packed.data()), &size, packed.size()),
            LZMA_OK);
  packed.resize(size);
  return packed;
}

// The workload of this text; a failure to read it fails the test.
inline Workload WorkloadOf(std::string_view text, const WorkloadOptions& options = {},
                           std::string_view name = "trace.csv") {
  const TraceFile file(text, name);
  absl::StatusOr<Workload> workload = ReadWorkload(file.path(), options);
  EXPECT_TRUE(workload.ok()) << workload.status();
  return workload.ok() ? *std::move(workload) : Workload{};
}

inline int64_t Dropped(const Workload& workload, std::string_view reason) {
  for (const auto& [known, rows] : workload.counts.dropped) {
    if (known == reason) return rows;
  }
  return 0;
}

// Every row is accounted for, and every part of the workload keeps what workload.h says.
inline void ExpectSound(const Workload& workload) {
  int64_t accounted = workload.counts.rows_kept;
  for (const auto& [reason, rows] : workload.counts.dropped) {
    EXPECT_GT(rows, 0) << reason;
    accounted += rows;
  }
  EXPECT_EQ(workload.counts.rows_read, accounted);
  EXPECT_EQ(workload.counts.rows_kept, workload.num_turns());
  EXPECT_FALSE(workload.tenants.empty());
  absl::Duration last;
  for (const WorkloadProgram& program : workload.programs) {
    EXPECT_GE(program.start, last);
    last = program.start;
    ASSERT_FALSE(program.turns.empty());
    ASSERT_LT(static_cast<size_t>(program.tenant), workload.tenants.size());
    int64_t before = 0;
    for (const WorkloadTurn& turn : program.turns) {
      EXPECT_GE(turn.after, absl::ZeroDuration());
      EXPECT_GE(turn.kept_tokens, 0);
      EXPECT_LE(turn.kept_tokens, before);
      int64_t prompt = turn.kept_tokens;
      for (const TokenRun& run : turn.runs) {
        EXPECT_GT(run.num_tokens, 0);
        prompt += run.num_tokens;
      }
      EXPECT_GT(prompt, 0);
      EXPECT_GT(turn.completion_tokens, 0);
      ASSERT_LT(static_cast<size_t>(turn.tool.value_or(-1) + 1), workload.tools.size() + 1);
      before = prompt + turn.completion_tokens;
    }
    EXPECT_EQ(program.turns.front().after, absl::ZeroDuration());
  }
}

inline std::string LinesOf(const Workload& workload) {
  std::string lines;
  WriteWorkloadLines(workload, [&](std::string_view line) { lines.append(line); });
  return lines;
}

inline int64_t PromptTokens(const WorkloadTurn& turn) {
  int64_t tokens = turn.kept_tokens;
  for (const TokenRun& run : turn.runs) tokens += run.num_tokens;
  return tokens;
}

}  // namespace holdfast
