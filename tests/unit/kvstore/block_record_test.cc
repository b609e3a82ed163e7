#include "kvstore/block_record.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/unit/kvstore/tier_test_blocks.h"

namespace holdfast {
namespace {

LayoutDigest Layout(uint8_t of) {
  LayoutDigest layout;
  layout.fill(of);
  return layout;
}

RecordHeader Header() {
  return {.sequence = 17,
          .payload_bytes = 5000,
          .payload_checksum = 0x1122334455667788,
          .layout = Layout(3),
          .identity = TestIdentity(4, 2)};
}

std::vector<std::byte> Encoded(const RecordHeader& header) {
  std::vector<std::byte> bytes(kRecordHeaderBytes);
  EncodeRecordHeader(header, bytes);
  return bytes;
}

TEST(BlockRecordTest, AHeaderComesBackWhole) {
  RecordHeader read;
  ASSERT_EQ(DecodeRecordHeader(Encoded(Header()), Layout(3), read), RecordVerdict::kGood);
  EXPECT_EQ(read.sequence, 17u);
  EXPECT_EQ(read.payload_bytes, 5000u);
  EXPECT_EQ(read.payload_checksum, 0x1122334455667788u);
  EXPECT_EQ(read.identity.scope, Header().identity.scope);
  EXPECT_EQ(read.identity.parent, Header().identity.parent);
  EXPECT_EQ(read.identity.digest, Header().identity.digest);
  EXPECT_EQ(read.identity.owner, Header().identity.owner);
  EXPECT_EQ(read.identity.depth, 2);
  EXPECT_EQ(read.identity.tokens, Header().identity.tokens);
}

TEST(BlockRecordTest, NoFlippedBitIsBelieved) {
  const std::vector<std::byte> good = Encoded(Header());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::vector<std::byte> bad = good;
    bad[bit / 8] ^= std::byte{1} << (bit % 8);
    RecordHeader read;
    ASSERT_NE(DecodeRecordHeader(bad, Layout(3), read), RecordVerdict::kGood) << "bit " << bit;
  }
}

TEST(BlockRecordTest, ShortEmptyAndForeignAreToldApart) {
  RecordHeader read;
  const std::vector<std::byte> good = Encoded(Header());
  EXPECT_EQ(DecodeRecordHeader(std::span(good).first(kRecordHeaderBytes - 1), Layout(3), read),
            RecordVerdict::kTorn);
  EXPECT_EQ(DecodeRecordHeader(std::vector<std::byte>(kRecordHeaderBytes), Layout(3), read),
            RecordVerdict::kEmpty);
  EXPECT_EQ(DecodeRecordHeader(good, Layout(4), read), RecordVerdict::kOtherLayout);
  std::vector<std::byte> newer = good;
  newer[8] = std::byte{kRecordVersion + 1};
  EXPECT_EQ(DecodeRecordHeader(newer, Layout(3), read), RecordVerdict::kOtherVersion);
}

// Well-formed, and a lie: the digest is not that of the tokens.
TEST(BlockRecordTest, AnIdentityThatContradictsItselfIsTorn) {
  RecordHeader read;
  RecordHeader wrong_token = Header();
  wrong_token.identity.tokens[5] += 1;
  EXPECT_EQ(DecodeRecordHeader(Encoded(wrong_token), Layout(3), read), RecordVerdict::kTorn);

  RecordHeader wrong_root = Header();  // says to be the first of its scope, and is not
  wrong_root.identity.depth = 0;
  EXPECT_EQ(DecodeRecordHeader(Encoded(wrong_root), Layout(3), read), RecordVerdict::kTorn);

  RecordHeader negative = Header();
  negative.identity.depth = -1;
  EXPECT_EQ(DecodeRecordHeader(Encoded(negative), Layout(3), read), RecordVerdict::kTorn);
}

// The format is read by later builds of the same version: it may not drift unseen.
TEST(BlockRecordTest, FieldsLieWhereTheyAlwaysLay) {
  const std::vector<std::byte> bytes = Encoded(Header());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), 8), "HFKVREC\n");
  EXPECT_EQ(bytes[8], std::byte{1});      // version
  EXPECT_EQ(bytes[12], std::byte{2});     // depth
  EXPECT_EQ(bytes[16], std::byte{17});    // sequence
  EXPECT_EQ(bytes[24], std::byte{0x88});  // 5000, little-endian
  EXPECT_EQ(bytes[32], std::byte{0x88});  // checksum's lowest byte
  EXPECT_EQ(bytes[40], std::byte{3});     // layout
  EXPECT_EQ(bytes[72], std::byte{1});     // scope
}

}  // namespace
}  // namespace holdfast
