// SIGKILL at any moment: a child writes, drops and compacts, and is killed without warning. The
// next start finds every block whose Put had returned, and serves nothing wrong.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <random>
#include <set>

#include "tests/unit/kvstore/disk_tier_fixture.h"

namespace holdfast {
namespace {

struct Word {  // child to parent
  uint32_t chain = 0;
  uint32_t dropped = 0;  // 0: its Put has returned; 1: it is about to be dropped
};

// Never returns; the exit status says what went wrong if the kill came too late.
[[noreturn]] void WriteUntilKilled(const DiskTierOptions& options, uint32_t chain, int words) {
  auto opened = DiskTier::Open(options);
  if (!opened.ok()) _exit(3);
  DiskTier& tier = **opened;
  const auto say = [words](Word word) {
    if (write(words, &word, sizeof(word)) != sizeof(word)) _exit(4);
  };
  std::deque<std::pair<TierSlot, uint32_t>> mine;
  for (const RecoveredBlock& block : tier.RecoveredBlocks()) {
    mine.emplace_back(block.slot, ChainOf(block.identity));
  }
  std::mt19937 rng(chain);
  for (;; ++chain) {
    while (tier.num_free() == 0) {
      const size_t i = rng() % mine.size();
      say({.chain = mine[i].second, .dropped = 1});
      tier.Drop(mine[i].first);
      mine.erase(mine.begin() + static_cast<std::ptrdiff_t>(i));
    }
    const TierSlot slot = *tier.TryReserve();
    if (!PutChain(tier, slot, chain).ok()) _exit(5);
    mine.emplace_back(slot, chain);
    say({.chain = chain});
  }
}

class DiskTierKillTest : public testing::TestWithParam<DiskIoKind> {};

TEST_P(DiskTierKillTest, TheNextStartFindsWhatWasPutAndNothingElse) {
  if (auto io = MakeDiskIo(GetParam(), 1); !io.ok()) GTEST_SKIP() << io.status();
  constexpr uint32_t kSeed = 20;
  std::mt19937 rng(kSeed);
  RecordProperty("seed", static_cast<int>(kSeed));
  for (const int32_t segments : {64, 5}) {  // roomy: nothing is ever dropped; tight: compaction
    TestDirectory directory;
    const DiskTierOptions options = DiskTestOptions(directory.path(), segments, 4, GetParam());
    std::set<uint32_t> put;
    uint32_t next_chain = 0;
    for (int life = 0; life < 12; ++life) {
      SCOPED_TRACE(testing::Message() << segments << " segments, life " << life);
      if (segments == 64 && put.size() > 100) break;  // before it is full
      int words[2];
      ASSERT_EQ(pipe(words), 0);
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        close(words[0]);
        WriteUntilKilled(options, next_chain, words[1]);
      }
      close(words[1]);
      const uint32_t lives_for = segments == 64 ? rng() % 15 : rng() % 80;
      Word word;
      uint32_t heard = 0;
      while (true) {
        if (heard++ == lives_for) kill(child, SIGKILL);
        if (read(words[0], &word, sizeof(word)) != sizeof(word)) break;
        if (word.dropped != 0) {
          put.erase(word.chain);
        } else {
          put.insert(word.chain);
        }
        next_chain = std::max(next_chain, word.chain + 1);
      }
      close(words[0]);
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFSIGNALED(status)) << "exit status " << WEXITSTATUS(status);
      ++next_chain;  // one may have been written and not been told of

      auto tier = OpenDiskTier(options);
      ASSERT_LE(directory.segment_bytes(), options.bytes_max);
      std::set<uint32_t> missing = put;
      std::set<uint32_t> found;
      for (const RecoveredBlock& block : tier->RecoveredBlocks()) {
        const uint32_t chain = ChainOf(block.identity);
        const absl::Status fetched = FetchChain(*tier, block.slot, chain);
        if (put.contains(chain)) {
          ASSERT_TRUE(fetched.ok()) << fetched;
        } else {
          // Dropped, or in mid-write: whole or found out.
          ASSERT_TRUE(fetched.ok() || absl::IsDataLoss(fetched)) << fetched;
        }
        missing.erase(chain);
        if (fetched.ok()) found.insert(chain);
      }
      if (tier->recovery().over_capacity == 0) {
        ASSERT_TRUE(missing.empty()) << missing.size() << " blocks were lost";
      }
      put = found;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, DiskTierKillTest,
                         testing::Values(DiskIoKind::kUring, DiskIoKind::kThreads), DiskIoName);

}  // namespace
}  // namespace holdfast
