#include "server/top_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace holdfast {
namespace {

using testing::ElementsAre;

constexpr char kQueue[] = R"({"object":"queue","policy":"continuum","order":"remaining_work",
  "whole":{"running":2,"running_max":8,"waiting":3,"pinned_blocks":9},
  "tenants":[
    {"tenant":"idle","running":0,"waiting":0},
    {"tenant":"blue","running":2,"waiting":3,"pinned_blocks":4,
     "waiting_by_reason":{"turn":2,"places":0,"blocks":1},"programs":{"known":5,"paused":1}}],
  "waiting":[{"id":"cmpl-3","tenant":"blue","session":"s3","priority":-1,"prompt_tokens":10,
              "age_ms":1500,"reason":"blocks"}],
  "waiting_total":3,
  "running":[
    {"id":"cmpl-1","choice":0,"tenant":"blue","session":"s1","priority":0,"offline":true,
     "prompt_tokens":100,"completion_tokens":0,"age_ms":20,"computed_tokens":64,"blocks":4},
    {"id":"cmpl-2","choice":1,"prompt_tokens":100,"completion_tokens":9,"computed_tokens":108},
    {"id":"cmpl-2","prompt_tokens":100,"completion_tokens":9,"computed_tokens":32},
    {"id":"cmpl-4","restoring":true}],
  "running_total":4})";
constexpr char kKv[] = R"({"object":"kv_cache","block_bytes":1024,
  "tiers":{"device":{"capacity_blocks":16,"free_blocks":5,"held_blocks":6,"evictable_blocks":4,
                     "moving_blocks":1},
           "host":{"capacity_blocks":32}},
  "tenants":[{"tenant":"blue","tiers":{"device":{"blocks":7},"host":{"blocks":2}}}]})";
constexpr char kPins[] = R"({"object":"list","total":2,"data":[
  {"tenant":"blue","session":"s9","state":"paused","blocks":3,"expires_in_ms":4500}]})";

TEST(TopStateTest, WhoMaySeeAllSeesPlacesAndBlocks) {
  const auto state = ReadTopState(kQueue, kKv, kPins);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->policy, "continuum");
  EXPECT_EQ(state->order, "remaining_work");
  EXPECT_EQ(state->block_bytes, 1024);
  ASSERT_TRUE(state->whole.has_value());
  EXPECT_EQ(state->whole->running, 2);
  EXPECT_EQ(state->whole->running_max, 8);
  EXPECT_EQ(state->whole->waiting, 3);
  EXPECT_EQ(state->whole->free, 5);
  EXPECT_EQ(state->whole->held, 6);
  EXPECT_EQ(state->whole->pinned, 6);  // no more than is held
  EXPECT_EQ(state->whole->evictable, 4);
  EXPECT_EQ(state->whole->moving, 1);
  EXPECT_THAT(state->whole->capacity, ElementsAre(16, 32, 0));
}

TEST(TopStateTest, TenantsWithMostToDoComeFirst) {
  const auto state = ReadTopState(kQueue, kKv, kPins);
  ASSERT_TRUE(state.ok()) << state.status();
  ASSERT_EQ(state->tenants.size(), 2U);
  const TopState::Tenant& blue = state->tenants[0];
  EXPECT_EQ(blue.name, "blue");
  EXPECT_EQ(blue.running, 2);
  EXPECT_EQ(blue.waiting, 3);
  EXPECT_EQ(blue.why, "turn 2, blocks 1");
  EXPECT_EQ(blue.pinned, 4);
  EXPECT_EQ(blue.programs, 5);
  EXPECT_EQ(blue.programs_paused, 1);
  EXPECT_THAT(blue.blocks, ElementsAre(7, 2, 0));
  EXPECT_EQ(state->tenants[1].name, "idle");
}

TEST(TopStateTest, ASequenceHasItsStageOrWhyItWaits) {
  const auto state = ReadTopState(kQueue, kKv, kPins);
  ASSERT_TRUE(state.ok()) << state.status();
  ASSERT_EQ(state->running.size(), 4U);
  EXPECT_EQ(state->running[0].stage, "prompt 64/100");
  EXPECT_EQ(state->running[0].priority, "offline");
  EXPECT_EQ(state->running[0].age, absl::Milliseconds(20));
  EXPECT_EQ(state->running[0].blocks, 4);
  EXPECT_EQ(state->running[1].request, "cmpl-2 (1)");
  EXPECT_EQ(state->running[1].stage, "drawing");
  EXPECT_EQ(state->running[2].stage, "again 32/109");
  EXPECT_EQ(state->running[3].stage, "restoring");
  ASSERT_EQ(state->waiting.size(), 1U);
  EXPECT_EQ(state->waiting[0].stage, "blocks");
  EXPECT_EQ(state->waiting[0].session, "s3");
  EXPECT_EQ(state->waiting[0].priority, "-1");
  EXPECT_EQ(state->running_total, 4);
  EXPECT_EQ(state->waiting_total, 3);
}

TEST(TopStateTest, APinHasWhatItWaitsForAndHowLong) {
  const auto state = ReadTopState(kQueue, kKv, kPins);
  ASSERT_TRUE(state.ok()) << state.status();
  ASSERT_EQ(state->pins.size(), 1U);
  EXPECT_EQ(state->pins[0].session, "s9");
  EXPECT_EQ(state->pins[0].why, "paused");
  EXPECT_EQ(state->pins[0].left, absl::Milliseconds(4500));
  EXPECT_EQ(state->pins_total, 2);
}

TEST(TopStateTest, ATenantIsToldOfNoWhole) {
  const auto state = ReadTopState(R"({"object":"queue","tenants":[{"tenant":"a"}]})",
                                  R"({"object":"kv_cache"})", R"({"object":"list"})");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_FALSE(state->whole.has_value());
  EXPECT_EQ(state->tenants.size(), 1U);
}

TEST(TopStateTest, WhatIsNoAnswerOfADaemonIsSaid) {
  for (const char* queue : {"", "<html>", "{}", "[]", "7", R"({"object":7})",
                            R"({"object":"list"})", "{\"object\":\"queue\",\"policy\":\"\xff\"}"}) {
    EXPECT_EQ(ReadTopState(queue, kKv, kPins).status().code(), absl::StatusCode::kDataLoss)
        << queue;
  }
  EXPECT_FALSE(ReadTopState(kQueue, kQueue, kPins).ok());
  EXPECT_FALSE(ReadTopState(kQueue, kKv, kKv).ok());
}

TEST(TopStateTest, FieldsOfAnotherFormAreAsIfTheyWereNotThere) {
  const auto state = ReadTopState(
      R"({"object":"queue","policy":[],"order":{},"whole":7,"tenants":{"a":1},"running_total":"x",
          "running":[1,null,[],{"id":7,"age_ms":"x","restoring":"yes","computed_tokens":1e300}],
          "waiting":"none"})",
      R"({"object":"kv_cache","block_bytes":1.5,"tiers":[],"tenants":[[]]})",
      R"({"object":"list","data":7,"total":-1})");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->policy, "");
  EXPECT_FALSE(state->whole.has_value());
  EXPECT_TRUE(state->tenants.empty());
  EXPECT_EQ(state->running.size(), 4U);
}

TEST(TopStateTest, AnErrorHasAMessage) {
  EXPECT_EQ(ReadTopError(R"({"error":{"message":"no such key"}})"), "no such key");
  for (const char* text : {"", "<html>", "[]", R"({"error":[]})", R"({"error":"x"})"}) {
    EXPECT_EQ(ReadTopError(text), "") << text;
  }
}

}  // namespace
}  // namespace holdfast
