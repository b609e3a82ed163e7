#include "config/nearest_name.h"

#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

const std::vector<std::string_view> kKnown = {"http", "grpc", "allow_anonymous", "tls"};

TEST(NearestNameTest, SlipsOfTheHandAreRecognised) {
  EXPECT_EQ(NearestName("htpt", kKnown), "http");
  EXPECT_EQ(NearestName("http", kKnown), "http");
  EXPECT_EQ(NearestName("htttp", kKnown), "http");
  EXPECT_EQ(NearestName("grp", kKnown), "grpc");
  EXPECT_EQ(NearestName("allow-anonymus", kKnown), "allow_anonymous");
  EXPECT_EQ(NearestName("ssl", kKnown), std::nullopt);
}

TEST(NearestNameTest, WhatIsFarFromEverythingHasNoNeighbour) {
  EXPECT_EQ(NearestName("certificates", kKnown), std::nullopt);
  EXPECT_EQ(NearestName("", kKnown), std::nullopt);
  EXPECT_EQ(NearestName("x", {}), std::nullopt);
  EXPECT_EQ(NearestName(std::string(100'000, 'h'), kKnown), std::nullopt);
}

}  // namespace
}  // namespace holdfast
