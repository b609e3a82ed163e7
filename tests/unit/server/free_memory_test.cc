#include "server/free_memory.h"

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "config/limits.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// A machine's /proc and /sys, as files of our own.
class FreeMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "holdfast-memory-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    Write("/proc/meminfo", "MemTotal: 2097152 kB\nMemFree: 1 kB\nMemAvailable:    1048576 kB\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  std::string root_;
};

TEST_F(FreeMemoryTest, WithoutControlGroupsItIsWhatTheKernelHasLeft) {
  EXPECT_EQ(*FreeMemoryBytes(root_), 1024 * kMiB);
}

TEST_F(FreeMemoryTest, TheTightestGroupOnTheWayUpBinds) {
  Write("/proc/self/cgroup", "0::/a/b\n");
  Write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  Write("/sys/fs/cgroup/a/b/memory.current", "1\n");
  EXPECT_EQ(*FreeMemoryBytes(root_), 1024 * kMiB);
  Write("/sys/fs/cgroup/a/memory.max", std::to_string(512 * kMiB) + "\n");
  Write("/sys/fs/cgroup/a/memory.current", std::to_string(100 * kMiB) + "\n");
  EXPECT_EQ(*FreeMemoryBytes(root_), 412 * kMiB);
  // File cache gives way.
  Write("/sys/fs/cgroup/a/memory.stat",
        "anon 5\ninactive_file " + std::to_string(60 * kMiB) + "\nactive_file 7\n");
  EXPECT_EQ(*FreeMemoryBytes(root_), 472 * kMiB);
}

TEST_F(FreeMemoryTest, VersionOneGroupsBindToo) {
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/box/42\n0::/\n");
  Write("/sys/fs/cgroup/memory/box/42/memory.limit_in_bytes", std::to_string(300 * kMiB));
  Write("/sys/fs/cgroup/memory/box/42/memory.usage_in_bytes", std::to_string(50 * kMiB));
  EXPECT_EQ(*FreeMemoryBytes(root_), 250 * kMiB);
  // An unlimited group says so with a huge number.
  Write("/sys/fs/cgroup/memory/box/42/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_EQ(*FreeMemoryBytes(root_), 1024 * kMiB);
}

// A container sees its own group as the top of the tree.
TEST_F(FreeMemoryTest, APathThatIsNotMountedStillFindsTheTop) {
  Write("/proc/self/cgroup", "0::/../elsewhere\n");
  Write("/sys/fs/cgroup/memory.max", std::to_string(200 * kMiB));
  Write("/sys/fs/cgroup/memory.current", std::to_string(10 * kMiB));
  EXPECT_EQ(*FreeMemoryBytes(root_), 190 * kMiB);
}

TEST_F(FreeMemoryTest, WithoutMeminfoTheOperatorIsAsked) {
  Write("/proc/meminfo", "nothing\n");
  EXPECT_EQ(FreeMemoryBytes(root_).status().code(), absl::StatusCode::kUnavailable);
}

TEST(DefaultKvBytesTest, ItIsAShareOfFreeMemoryInWholeBlocks) {
  const KvDemand demand{.block_bytes = 368640, .context_tokens = 8192, .running_max = 64};
  const int64_t bytes = *DefaultKvBytes(10'000 * kMiB, demand);
  EXPECT_LE(bytes, 4'000 * kMiB);
  EXPECT_GT(bytes, 4'000 * kMiB - 368640);
  EXPECT_EQ(bytes % 368640, 0);
}

TEST(DefaultKvBytesTest, ItIsNeverMoreThanAllSequencesCanUseNorLessThanOneNeeds) {
  const KvDemand demand{
      .block_bytes = 1000, .context_tokens = 2 * kBlockTokens + 1, .running_max = 4};
  EXPECT_EQ(*DefaultKvBytes(int64_t{1} << 40, demand), 3 * 4 * 1000);
  EXPECT_EQ(*DefaultKvBytes(4000, demand), 3 * 1000);
  EXPECT_EQ(*DefaultKvBytes(kMiB, {}), 0);
}

TEST(DefaultKvBytesTest, ASequenceThatDoesNotFitIsRefusedWithWhatWould) {
  // 131072 tokens of 32 layers on a machine of 8 GiB: 8192 blocks of 4 MiB are 32 GiB.
  const KvDemand demand{
      .block_bytes = 4 << 20, .context_tokens = 8192 * kBlockTokens, .running_max = 64};
  const auto refused = DefaultKvBytes(8192 * kMiB, demand);
  ASSERT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  const std::string message(refused.status().message());
  EXPECT_NE(message.find(std::to_string(8192 * 4 * kMiB)), std::string::npos) << message;
  EXPECT_NE(message.find("engine.context_tokens to " + std::to_string(1945 * kBlockTokens)),
            std::string::npos)
      << message;
  const KvDemand shorter{
      .block_bytes = 4 << 20, .context_tokens = 1945 * kBlockTokens, .running_max = 64};
  EXPECT_EQ(*DefaultKvBytes(8192 * kMiB, shorter), 1945 * 4 * kMiB);
}

TEST(CheckKvFitsTest, AWantedSizeAboveWhatIsFreeIsRefusedWithBothSizes) {
  EXPECT_TRUE(CheckKvFits(95 * kMiB, 100 * kMiB).ok());
  const absl::Status refused = CheckKvFits(95 * kMiB + 1, 100 * kMiB);
  ASSERT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  const std::string message(refused.message());
  EXPECT_NE(message.find(std::to_string(95 * kMiB + 1)), std::string::npos) << message;
  EXPECT_NE(message.find(std::to_string(95 * kMiB) + " bytes"), std::string::npos) << message;
}

}  // namespace
}  // namespace holdfast
