#include "config/base/mailbox.h"

#include <memory>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using Message = std::unique_ptr<int>;

TEST(MailboxTest, MessagesComeOutInTheOrderTheyWentIn) {
  Mailbox<Message> mailbox(4);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(mailbox.Push(std::make_unique<int>(i)));
  std::vector<Message> taken;
  mailbox.TakeAll(taken);
  ASSERT_EQ(taken.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(*taken[static_cast<size_t>(i)], i);
  mailbox.TakeAll(taken);
  EXPECT_EQ(taken.size(), 3u);
}

TEST(MailboxTest, AFullBoxLeavesTheMessageWithItsSender) {
  Mailbox<Message> mailbox(1);
  ASSERT_TRUE(mailbox.Push(std::make_unique<int>(1)));
  Message second = std::make_unique<int>(2);
  EXPECT_FALSE(mailbox.Push(std::move(second)));
  ASSERT_NE(second, nullptr);
  EXPECT_TRUE(mailbox.PushUrgent(std::move(second)));
  std::vector<Message> taken;
  mailbox.TakeAll(taken);
  EXPECT_EQ(taken.size(), 2u);
}

TEST(MailboxTest, SeveralGoInTogetherBehindThoseThatWait) {
  Mailbox<int> mailbox(1);
  EXPECT_TRUE(mailbox.Push(1));
  std::vector<int> several = {2, 3, 4}, taken;
  EXPECT_TRUE(mailbox.PushAllUrgent(several));
  EXPECT_TRUE(several.empty());
  EXPECT_TRUE(mailbox.WaitTakeAll(taken));
  EXPECT_EQ(taken, std::vector<int>({1, 2, 3, 4}));

  mailbox.Close();
  several = {5};
  EXPECT_FALSE(mailbox.PushAllUrgent(several));
  EXPECT_EQ(several, std::vector<int>({5}));
}

TEST(MailboxTest, AClosedBoxTakesNothingAndGivesWhatItHas) {
  Mailbox<Message> mailbox(4);
  ASSERT_TRUE(mailbox.Push(std::make_unique<int>(1)));
  mailbox.Close();
  EXPECT_FALSE(mailbox.Push(std::make_unique<int>(2)));
  EXPECT_FALSE(mailbox.PushUrgent(std::make_unique<int>(3)));
  std::vector<Message> taken;
  EXPECT_TRUE(mailbox.WaitTakeAll(taken));
  EXPECT_EQ(taken.size(), 1u);
  EXPECT_FALSE(mailbox.WaitTakeAll(taken));
}

TEST(MailboxTest, AWaitEndsWithItsTimeout) {
  Mailbox<Message> mailbox(1);
  std::vector<Message> taken;
  EXPECT_TRUE(mailbox.WaitTakeAll(taken, absl::Milliseconds(1)));
  EXPECT_TRUE(taken.empty());
}

TEST(MailboxTest, ClosingWakesTheOneWhoWaits) {
  Mailbox<Message> mailbox(1);
  bool open = true;
  std::thread owner([&] {
    std::vector<Message> taken;
    open = mailbox.WaitTakeAll(taken);
  });
  mailbox.Close();
  owner.join();
  EXPECT_FALSE(open);
}

TEST(MailboxTest, NothingIsLostBetweenManySendersAndOneOwner) {
  constexpr int kSenders = 4, kEach = 2000;
  Mailbox<int> mailbox(64);
  std::vector<std::thread> senders;
  for (int sender = 0; sender < kSenders; ++sender) {
    senders.emplace_back([&mailbox, sender] {
      for (int i = 0; i < kEach; ++i) {
        while (!mailbox.Push(sender * kEach + i)) std::this_thread::yield();
      }
    });
  }
  std::vector<int> last(kSenders, -1), batch;
  int num_taken = 0;
  while (num_taken < kSenders * kEach) {
    batch.clear();
    ASSERT_TRUE(mailbox.WaitTakeAll(batch));
    for (int message : batch) {
      int& before = last[static_cast<size_t>(message / kEach)];
      ASSERT_LT(before, message);  // of each sender in order
      before = message;
    }
    num_taken += static_cast<int>(batch.size());
  }
  for (std::thread& sender : senders) sender.join();
  EXPECT_EQ(num_taken, kSenders * kEach);
}

}  // namespace
}  // namespace holdfast
