#include "scheduler/tenant_rows.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr TenantIndex kA{0}, kB{1}, kC{2};

TEST(TenantRowsTest, WhoIsAloneMayTakeTheWholeStep) {
  TenantRows rows({1, 1});
  rows.Begin(100);
  rows.AddPrefill(kA);
  EXPECT_EQ(rows.PartLeft(kA), 100);
  EXPECT_EQ(rows.num_present(), 1);
}

TEST(TenantRowsTest, PartsGoByWeightAndDecodesCount) {
  TenantRows rows({1, 3, 1});
  rows.Begin(100);
  for (int32_t i = 0; i < 10; ++i) rows.AddDecode(kA);
  rows.AddPrefill(kB);
  EXPECT_EQ(rows.PartLeft(kA), 15);
  EXPECT_EQ(rows.PartLeft(kB), 75);
  EXPECT_EQ(rows.PartLeft(kC), 20);  // were it to come
  rows.Take(kB, 70);
  EXPECT_EQ(rows.PartLeft(kB), 5);
}

TEST(TenantRowsTest, WhoHasHadItsPartHasNothingLeftAndWhoHasNoneHasARow) {
  TenantRows rows({1, 1, 0.001});
  rows.Begin(10);
  rows.Take(kA, 8);
  rows.AddPrefill(kB);
  EXPECT_EQ(rows.PartLeft(kA), 0);
  EXPECT_EQ(rows.PartLeft(kC), 1);
}

TEST(TenantRowsTest, AStepForgetsWhoWasThereInTheOneBefore) {
  TenantRows rows({1, 1});
  rows.Begin(10);
  rows.Take(kA, 8);
  rows.AddPrefill(kB);
  rows.Begin(20);
  EXPECT_EQ(rows.num_present(), 0);
  EXPECT_EQ(rows.PartLeft(kA), 20);
}

TEST(TenantRowsTest, WhatATenantDoesNotUseIsSavedForItUpToAStep) {
  TenantRows rows({1, 1});
  for (int32_t step = 1; step <= 3; ++step) {
    EXPECT_EQ(rows.IsOwed(kB), step > 2);
    rows.Begin(100);
    rows.Take(kA, 100);
  }
  rows.Begin(100);
  EXPECT_TRUE(rows.IsOwed(kB));
  rows.AddPrefill(kA);
  rows.AddPrefill(kB);
  EXPECT_EQ(rows.PartLeft(kA), 50);   // never less than its part
  EXPECT_EQ(rows.PartLeft(kB), 150);  // its part and a step's rows, though it stayed away for three
  rows.Take(kB, 100);
  rows.Begin(100);
  rows.AddPrefill(kA);
  rows.AddPrefill(kB);
  EXPECT_EQ(rows.PartLeft(kA), 100);  // what the other's prompt kept from it
  EXPECT_EQ(rows.PartLeft(kB), 100);
}

}  // namespace
}  // namespace holdfast
