#include "kvstore/pin_table.h"

#include <limits>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

absl::Time At(int64_t seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

Pin PinOf(int32_t tenant, const std::string& session, std::vector<int32_t> blocks,
          int64_t deadline = 10, int32_t priority = 0) {
  Pin pin{.tenant = TenantIndex{tenant},
          .session = session,
          .priority = priority,
          .deadline = At(deadline)};
  for (int32_t block : blocks) pin.blocks.push_back(BlockId{block});
  return pin;
}

std::vector<std::string> Sessions(const std::vector<Pin>& pins) {
  std::vector<std::string> sessions;
  for (const Pin& pin : pins) sessions.push_back(pin.session);
  return sessions;
}

TEST(PinTableTest, ANewPinOfASessionReplacesTheOld) {
  PinTable pins(4, {4});
  std::vector<Pin> ended;
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "a", {0, 1, 2}), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "a", {0, 1, 2, 3}), ended));
  EXPECT_EQ(Sessions(ended), std::vector<std::string>{"a"});
  EXPECT_EQ(pins.num_pins(), 1);
  EXPECT_EQ(pins.num_blocks(), 4);
  EXPECT_EQ(pins.num_ended(PinEnd::kReplaced), 1u);
  pins.CheckInvariants();
}

TEST(PinTableTest, ALoweredBoundLeavesWhatThereIsAndANewTenantHasItsOwn) {
  PinTable pins(6, {6});
  std::vector<Pin> ended;
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "a", {0, 1}, 10), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "b", {2, 3}, 20), ended));
  pins.SetBlocksMax({3, 2});
  pins.CheckInvariants();
  EXPECT_EQ(pins.num_blocks(TenantIndex{0}), 4);
  ASSERT_TRUE(pins.TryAdd(PinOf(1, "a", {4, 5}), ended));
  EXPECT_TRUE(ended.empty());
  EXPECT_FALSE(pins.TryAdd(PinOf(0, "c", {0, 1, 2, 3}), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "b", {2}, 30), ended));
  EXPECT_EQ(pins.num_blocks(TenantIndex{0}), 3);
  pins.CheckInvariants();
}

TEST(PinTableTest, SharedBlocksCountOnce) {
  PinTable pins(4, {4, 3});
  std::vector<Pin> ended;
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "a", {0, 1, 2}), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "b", {0, 1, 3}), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(1, "a", {0, 1}), ended));
  EXPECT_TRUE(ended.empty());
  EXPECT_EQ(pins.num_blocks(), 4);
  EXPECT_EQ(pins.num_blocks(TenantIndex{1}), 2);
  pins.Remove(pins.Find(TenantIndex{0}, "a")->id, PinEnd::kFinal);
  EXPECT_EQ(pins.num_blocks(), 3);
  pins.CheckInvariants();
}

TEST(PinTableTest, BeyondABoundOnlyTheTenantsOwnLesserPinsGo) {
  PinTable pins(6, {6, 6});
  std::vector<Pin> ended;
  ASSERT_TRUE(pins.TryAdd(PinOf(1, "other", {0, 1}, 1, 9), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "late", {2}, 30), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "early", {3}, 10), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "lesser", {4}, 40, 1), ended));
  // One must go: the less important first, though its deadline is the last.
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "new", {5, 6}, 20), ended));
  EXPECT_EQ(Sessions(ended), std::vector<std::string>{"lesser"});
  ended.clear();
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "newer", {7}, 20), ended));
  EXPECT_EQ(Sessions(ended), std::vector<std::string>{"early"});
  ended.clear();
  // Another tenant's is never taken, nor one that matters more.
  EXPECT_FALSE(pins.TryAdd(PinOf(0, "huge", {10, 11, 12, 13, 14}, 100), ended));
  EXPECT_FALSE(pins.TryAdd(PinOf(0, "unimportant", {10}, 100, 5), ended));
  EXPECT_TRUE(ended.empty());
  EXPECT_EQ(pins.num_pins(), 4);
  pins.CheckInvariants();
}

TEST(PinTableTest, PinsEndByDeadlineAndByForceInTheirOrders) {
  PinTable pins(8, {8});
  std::vector<Pin> ended;
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "b", {1}, 20, 1), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "a", {0}, 10, 0), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "c", {2}, 30, 1), ended));
  EXPECT_EQ(pins.Expired(At(9)), std::nullopt);
  EXPECT_EQ(pins.Expired(At(10)), pins.Find(TenantIndex{0}, "a")->id);
  EXPECT_EQ(pins.LeastImportant(), pins.Find(TenantIndex{0}, "b")->id);
  EXPECT_EQ(pins.Remove(*pins.LeastImportant(), PinEnd::kForced).session, "b");
  EXPECT_EQ(pins.Remove(*pins.LeastImportant(), PinEnd::kForced).session, "c");
  EXPECT_EQ(pins.Remove(*pins.Expired(At(10)), PinEnd::kExpired).session, "a");
  EXPECT_EQ(pins.LeastImportant(), std::nullopt);
  EXPECT_EQ(pins.num_blocks(), 0);
  EXPECT_EQ(pins.num_ended(PinEnd::kForced), 2u);
  EXPECT_EQ(pins.num_ended(PinEnd::kExpired), 1u);
}

TEST(PinTableTest, TheLeastAndTheGreatestPriorityAreOrderedAsAllOthers) {
  constexpr int32_t kFirst = std::numeric_limits<int32_t>::min();
  constexpr int32_t kLast = std::numeric_limits<int32_t>::max();
  PinTable pins(3, {3});
  std::vector<Pin> ended;
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "most", {0}, 10, kFirst), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "some", {1}, 20, 0), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "least", {2}, 30, kLast), ended));
  ASSERT_TRUE(pins.TryAdd(PinOf(0, "more", {3}, 20, -1), ended));
  EXPECT_EQ(Sessions(ended), std::vector<std::string>{"least"});
  EXPECT_EQ(pins.Remove(*pins.LeastImportant(), PinEnd::kForced).session, "some");
  EXPECT_EQ(pins.Remove(*pins.LeastImportant(), PinEnd::kForced).session, "more");
  EXPECT_EQ(pins.Remove(*pins.LeastImportant(), PinEnd::kForced).session, "most");
}

TEST(PinTableTest, ThereAreNoMorePinsThanBlocksThatMayBePinned) {
  PinTable pins(2, {2});
  std::vector<Pin> ended;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(pins.TryAdd(PinOf(0, std::to_string(i), {0}, 10 + i), ended));
    EXPECT_LE(pins.num_pins(), 2);
  }
  EXPECT_EQ(Sessions(ended), (std::vector<std::string>{"0", "1", "2"}));
}

TEST(PinTableTest, AProvisionalPinDisplacesNoneAndStatesAreCounted) {
  PinTable pins(4, {4, 4});
  std::vector<Pin> ended;
  Pin kept = PinOf(0, "kept", {0, 1, 2}, 10);
  kept.state = PinState::kPaused;
  ASSERT_TRUE(pins.TryAdd(std::move(kept), ended));
  Pin provisional = PinOf(0, "later", {3, 4}, 20);
  provisional.state = PinState::kProvisional;
  EXPECT_FALSE(pins.TryAdd(std::move(provisional), ended));
  EXPECT_TRUE(ended.empty());
  EXPECT_EQ(pins.num_pins(PinState::kPaused), 1);
  const PinId id = pins.Find(TenantIndex{0}, "kept")->id;
  pins.SetState(id, PinState::kWanted);
  pins.SetDeadline(id, At(5));
  EXPECT_EQ(pins.num_pins(PinState::kPaused), 0);
  EXPECT_EQ(pins.num_pins(PinState::kWanted), 1);
  EXPECT_EQ(pins.Expired(At(5)), id);
  pins.CheckInvariants();
  pins.Remove(id, PinEnd::kDeclined);
  EXPECT_EQ(pins.num_pins(PinState::kWanted), 0);
  EXPECT_EQ(pins.num_ended(PinEnd::kDeclined), 1u);
  pins.CheckInvariants();
}

}  // namespace
}  // namespace holdfast
