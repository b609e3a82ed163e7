// The usage ledger, its service and what `holdfast usage` prints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "scheduler/metrics.h"
#include "server/generation_metrics.h"
#include "server/usage_ledger.h"
#include "server/usage_report.h"
#include "server/usage_service.h"
#include "tests/unit/server/full_disk.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

class SetClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1'000'000 * 3600LL);  // a full hour
};

class UsageTest : public testing::Test {
 protected:
  UsageTest() { Open(); }
  ~UsageTest() override {
    ledger_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::string Path() const { return absl::StrCat(folder_, "/", num_lives_); }
  void Open() {
    std::filesystem::create_directories(folder_);
    auto ledger = UsageLedger::Open(Path(), tenants_, clock_);
    ASSERT_TRUE(ledger.ok()) << ledger.status();
    ledger_ = *std::move(ledger);
    totals_.assign(tenants_.size(), {});
  }
  // What a process that is killed now leaves in the file, taken up by the next one.
  void Kill() {
    const std::string before = Path();
    ++num_lives_;
    for (const char* end : {"", "-wal"}) {
      if (std::filesystem::exists(before + end)) {
        std::filesystem::copy_file(before + end, Path() + end);
      }
    }
    Open();
  }
  std::vector<UsageRow> Read(const UsageQuery& query = {.by = UsageBy::kHour}) {
    auto rows = ReadUsage(Path(), query);
    EXPECT_TRUE(rows.ok()) << rows.status();
    return rows.ok() ? *std::move(rows) : std::vector<UsageRow>();
  }
  int64_t Hour() const { return absl::ToUnixSeconds(clock_.now) / 3600 * 3600; }

  SetClock clock_;
  const std::string folder_ = absl::StrCat(testing::TempDir(), "/usage-", getpid());
  const std::vector<std::string> tenants_ = {"red", "blue"};
  int num_lives_ = 0;
  std::unique_ptr<UsageLedger> ledger_;
  std::vector<UsageTotals> totals_;
};

// Beside a map of what each hour should have. The seed replays a failure.
TEST_F(UsageTest, NothingIsCountedTwiceOrLostButWhatCameAfterTheLastAddOnRandomWalks) {
  struct Kept {
    std::array<int64_t, kUsageColumns.size()> counts{};
    std::map<std::string, int64_t> refusals;
  };
  std::map<std::pair<int64_t, std::string>, Kept> model;
  for (uint32_t seed = 0; seed < 8; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::vector<UsageTotals> kept(tenants_.size());
    Kill();
    for (int step = 0; step < 60; ++step) {
      UsageTotals& grows = totals_[rng() % totals_.size()];
      grows.counts[rng() % grows.counts.size()] += rng() % 1000;
      if (rng() % 4 == 0) ++grows.refusals[rng() % grows.refusals.size()];
      clock_.now += absl::Minutes(rng() % 30);
      if (rng() % 3 == 0) {
        const bool fails = rng() % 3 == 0;
        absl::Status added;
        if (fails) {
          const FullDisk full;
          added = ledger_->Add(totals_);
        } else {
          added = ledger_->Add(totals_);
        }
        ASSERT_EQ(added.ok(), !fails || totals_ == kept) << added;
        for (size_t i = 0; added.ok() && i < tenants_.size(); ++i) {
          if (totals_[i] == kept[i]) continue;
          Kept& row = model[{Hour(), tenants_[i]}];
          for (size_t j = 0; j < row.counts.size(); ++j) {
            row.counts[j] += totals_[i].counts[j] - kept[i].counts[j];
          }
          for (size_t j = 0; j < kRefusalReasons.size(); ++j) {
            const int64_t refused = totals_[i].refusals[j] - kept[i].refusals[j];
            if (refused > 0) row.refusals[std::string(kRefusalReasons[j])] += refused;
          }
        }
        if (added.ok()) kept = totals_;
      }
      if (rng() % 16 == 0) {
        Kill();
        kept = totals_;
      }
    }
    const std::vector<UsageRow> rows = Read();
    ASSERT_EQ(rows.size(), model.size());
    auto row = rows.begin();
    for (const auto& [key, wanted] : model) {
      EXPECT_EQ(std::make_pair(row->begin, row->tenant), key);
      for (size_t j = 0; j < wanted.counts.size(); ++j) {
        EXPECT_EQ(row->counts[j], static_cast<double>(wanted.counts[j])) << kUsageColumns[j];
      }
      EXPECT_EQ(row->refusals, wanted.refusals);
      ++row;
    }
  }
}

TEST_F(UsageTest, SeveralDaemonsMayWriteToOneFile) {
  const auto other = UsageLedger::Open(Path(), {"red"}, clock_);
  ASSERT_TRUE(other.ok()) << other.status();
  totals_[0][UsageColumn::kRequests] = 3;
  ASSERT_TRUE(ledger_->Add(totals_).ok());
  ASSERT_TRUE((*other)->Add(std::span(totals_).first(1)).ok());
  ASSERT_EQ(Read().size(), 1);
  EXPECT_EQ(Read()[0].counts[0], 6);
}

TEST_F(UsageTest, SumsAreOfTheTimeAndTheTenantThatAreAskedFor) {
  for (int hour = 0; hour < 30; ++hour) {
    for (UsageTotals& totals : totals_) ++totals[UsageColumn::kRequests];
    ASSERT_TRUE(ledger_->Add(totals_).ok());
    clock_.now += absl::Hours(1);
  }
  const int64_t first = 1'000'000 * 3600LL;  // 16:00 UTC
  const auto sums = [&](const UsageQuery& query) {
    std::vector<double> requests;
    for (const UsageRow& row : Read(query)) requests.push_back(row.counts[0]);
    return requests;
  };
  EXPECT_EQ(sums({}), (std::vector<double>{30, 30}));
  EXPECT_EQ(sums({.tenant = "red", .by = UsageBy::kDay}), (std::vector<double>{8, 22}));
  EXPECT_EQ(sums({.from = first + 3600, .to = first + 3 * 3600, .tenant = "blue"}),
            (std::vector<double>{2}));
  EXPECT_EQ(sums({.tenant = "green"}), std::vector<double>());
}

TEST_F(UsageTest, OldHoursGoWholeTheOldestFirstAndNoneThatIsKept) {
  constexpr int kHours = 60;
  for (int hour = 0; hour < kHours; ++hour) {
    for (UsageTotals& totals : totals_) ++totals[UsageColumn::kRequests];
    if (hour % 3 == 0) ++totals_[0].refusals[0];
    ASSERT_TRUE(ledger_->Add(totals_).ok());
    if (hour + 1 < kHours) clock_.now += absl::Hours(1);
  }
  clock_.now += absl::Minutes(59);
  const auto hours = [&] {
    const std::vector<UsageRow> rows = Read();
    EXPECT_EQ(rows.size() % 2, 0);  // both tenants'
    EXPECT_TRUE(rows.empty() || rows.back().begin == Hour());
    return rows.size() / 2;
  };
  ASSERT_TRUE(ledger_->DeleteOld(absl::InfiniteDuration()).ok());
  EXPECT_EQ(hours(), kHours);
  {
    const FullDisk full;
    EXPECT_EQ(ledger_->DeleteOld(absl::Hours(10)).code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(hours(), kHours);
  ASSERT_TRUE(ledger_->DeleteOld(absl::Hours(10)).ok());
  EXPECT_EQ(hours(), kHours - kUsageHoursDeletedMax);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(ledger_->DeleteOld(absl::Hours(10)).ok());
  EXPECT_EQ(hours(), 11);  // this one and ten before it
  int64_t refusals = 0;
  for (const UsageRow& row : Read()) refusals += row.refusals.empty() ? 0 : 1;
  EXPECT_EQ(refusals, 3);  // of the hours 51, 54 and 57
  Kill();
  EXPECT_EQ(hours(), 11);
  ASSERT_TRUE(ledger_->DeleteOld(absl::Hours(1)).ok());
  EXPECT_EQ(hours(), 2);
}

TEST_F(UsageTest, TheServiceDeletesWhatIsTooOldAlsoWhereNothingIsUsed) {
  ++totals_[0][UsageColumn::kRequests];
  ASSERT_TRUE(ledger_->Add(totals_).ok());
  clock_.now += absl::Hours(24);
  const auto serve = [&] {
    Open();  // counts from 0
    UsageService(std::move(ledger_), [](const auto&) { return std::vector<UsageTotals>(2); },
                 {.flush = absl::Hours(1), .keep = absl::Hours(24), .on_change = nullptr});
  };
  serve();
  EXPECT_EQ(Read().size(), 1);
  clock_.now += absl::Hours(1);
  serve();
  EXPECT_EQ(Read().size(), 0);
}

TEST_F(UsageTest, WhoAsksByTextGetsTheSameRowsAsJson) {
  ++totals_[0][UsageColumn::kRequests];
  ++totals_[1][UsageColumn::kOk];
  ASSERT_TRUE(ledger_->Add(totals_).ok());
  const auto rows = [&](const UsageAsk& ask) {
    const absl::StatusOr<std::string> text = UsageAsJson(Path(), ask);
    return text.ok() ? nlohmann::json::parse(*text) : nlohmann::json(text.status().ToString());
  };
  EXPECT_EQ(rows({}).size(), 2);
  const auto red =
      rows({.from = "2084-01-29T16", .to = "2084-01-30", .by = "hour", .tenant = "red"});
  ASSERT_EQ(red.size(), 1) << red;
  EXPECT_EQ(red[0]["hour"], "2084-01-29T16:00:00Z");
  EXPECT_EQ(red[0]["tenant"], "red");
  EXPECT_THAT(rows({.from = "yesterday"}).get<std::string>(), HasSubstr("from: wanted a UTC hour"));
  EXPECT_THAT(rows({.by = "week"}).get<std::string>(), HasSubstr("tenant | day | hour"));
}

TEST_F(UsageTest, AnAnswerOfTooManyRowsIsRefused) {
  for (int hour = 0; hour < 3; ++hour) {
    for (UsageTotals& totals : totals_) ++totals[UsageColumn::kRequests];
    ASSERT_TRUE(ledger_->Add(totals_).ok());
    clock_.now += absl::Hours(1);
  }
  EXPECT_EQ(Read({.by = UsageBy::kHour, .rows_max = 6}).size(), 6u);
  const auto more = ReadUsage(Path(), {.by = UsageBy::kHour, .rows_max = 5});
  EXPECT_EQ(more.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(more.status().message()), HasSubstr("more than 5 rows"));
}

// What a service is asked, each question answered with its tenant, and none before LetGo.
class Questions {
 public:
  UsageOptions Options() {
    return {.flush = absl::Hours(1), .on_change = nullptr, .answer = [this](const UsageAsk& ask) {
              if (!entered_.HasBeenNotified()) entered_.Notify();
              may_go_.WaitForNotification();
              return absl::StatusOr<std::string>(ask.tenant);
            }};
  }
  bool Ask(UsageService& service, const std::string& tenant) {
    return service.Ask({.tenant = tenant}, [this](const absl::StatusOr<std::string>& answer) {
      told_ += answer.ok() ? *answer + " " : absl::StatusCodeToString(answer.status().code()) + " ";
    });
  }
  void WaitForTheFirst() { entered_.WaitForNotification(); }
  void LetGo() { may_go_.Notify(); }
  const std::string& told() const { return told_; }  // once the service has ended

 private:
  absl::Notification entered_, may_go_;
  std::string told_;
};

TEST_F(UsageTest, ATenantWhoAsksALotLeavesOthersRoom) {
  Questions questions;
  {
    UsageService service(
        std::move(ledger_), [](const auto&) { return std::vector<UsageTotals>(2); },
        questions.Options());
    ASSERT_TRUE(questions.Ask(service, "red"));
    questions.WaitForTheFirst();
    for (size_t i = 0; i < kUsageAsksOfOneMax; ++i) EXPECT_TRUE(questions.Ask(service, "red"));
    EXPECT_FALSE(questions.Ask(service, "red"));
    EXPECT_TRUE(questions.Ask(service, "blue"));
    absl::Notification asked_last;
    EXPECT_TRUE(service.Ask({.tenant = "green"}, [&](const auto&) { asked_last.Notify(); }));
    questions.LetGo();
    asked_last.WaitForNotification();
  }
  EXPECT_EQ(questions.told(), "red red red red red blue ");
}

TEST_F(UsageTest, AtItsEndTheServiceWritesAndLeavesNoQuestionWithoutAWord) {
  Questions questions;
  {
    UsageService service(
        std::move(ledger_),
        [](const auto&) {
          std::vector<UsageTotals> totals(2);
          totals[0][UsageColumn::kRequests] = 7;
          return totals;
        },
        questions.Options());
    ASSERT_TRUE(questions.Ask(service, "red"));
    questions.WaitForTheFirst();
    ASSERT_TRUE(questions.Ask(service, "blue"));
    questions.LetGo();
  }
  EXPECT_EQ(Read({})[0].counts[0], 7);
  EXPECT_THAT(questions.told(), testing::AnyOf("red blue ", "red UNAVAILABLE "));
}

TEST_F(UsageTest, WhatIsNotThereOrNotOursIsSaid) {
  EXPECT_EQ(ReadUsage(folder_ + "/none", {}).status().code(), absl::StatusCode::kNotFound);
  const auto alone = Database::Open(folder_ + "/alone", "CREATE TABLE other (x);");
  ASSERT_TRUE(alone.ok());
  EXPECT_THAT(std::string(ReadUsage(folder_ + "/alone", {}).status().message()),
              HasSubstr("is in use by another process"));
}

std::vector<UsageRow> SomeRows() {
  UsageRow row{.begin = 1'000'000 * 3600LL, .tenant = "=1+\"a\",b", .refusals = {{"queue", 2}}};
  row.counts[static_cast<size_t>(UsageColumn::kRequests)] = 5;
  row.counts[static_cast<size_t>(UsageColumn::kKvByteSeconds)] = 2e19;
  row.counts[static_cast<size_t>(UsageColumn::kComputeMicroseconds)] = 1'500'000;
  return {row};
}

TEST(UsageFormatTest, CsvHasAColumnForEachReasonAndNoFormula) {
  EXPECT_EQ(FormatUsageCsv(SomeRows(), UsageBy::kHour),
            "hour,tenant,requests,ok,cancelled,timed_out,failed,prompt_tokens,cached_tokens,"
            "completion_tokens,kv_byte_seconds,compute_seconds,refused,refused_capacity,"
            "refused_queue,refused_tenant_queue,refused_queue_share,refused_queue_wait,"
            "refused_request_rate,refused_token_rate,refused_texts,refused_invalid,"
            "refused_unavailable\r\n"
            "2084-01-29T16:00:00Z,\"'=1+\"\"a\"\",b\",5,0,0,0,0,0,0,0,20000000000000000000,"
            "1.500000,2,0,2,0,0,0,0,0,0,0,0\r\n");
}

TEST(UsageFormatTest, JsonHasNumbersAndTheReasonsThatThereWere) {
  const auto json = nlohmann::json::parse(FormatUsageJson(SomeRows(), UsageBy::kDay));
  ASSERT_EQ(json.size(), 1);
  EXPECT_EQ(json[0]["day"], "2084-01-29");
  EXPECT_EQ(json[0]["tenant"], "=1+\"a\",b");
  EXPECT_EQ(json[0]["requests"], 5);
  EXPECT_EQ(json[0]["kv_byte_seconds"], 2e19);
  EXPECT_EQ(json[0]["compute_seconds"], 1.5);
  EXPECT_EQ(json[0]["refusals"], nlohmann::json({{"queue", 2}}));
  EXPECT_EQ(FormatUsageJson({}, UsageBy::kTenant), "[]\n");
}

TEST(UsageFormatTest, TheTableSaysWhyRequestsWereRefused) {
  const std::string table = FormatUsageTable(SomeRows(), UsageBy::kTenant);
  EXPECT_THAT(table, HasSubstr("tenant                    requests"));
  EXPECT_THAT(table, HasSubstr("1.500  queue 2\n"));
  EXPECT_EQ(FormatUsageTable({}, UsageBy::kTenant), "nothing was used in that time\n");
}

TEST_F(UsageTest, TheServiceWritesWhatTheCountersSayLastWhenItGoes) {
  MetricsRegistry registry;
  registry.BoundLabel("tenant", 1);  // of what is printed; the ledger has everyone
  GenerationMetrics served(registry, tenants_, "tiny");
  std::vector<SchedulerMetrics::Tenant> scheduled;
  for (const std::string& name : tenants_) {
    scheduled.push_back(SchedulerMetrics::OfTenant(registry, name));
  }
  {
    const UsageService service(std::move(ledger_), UsageCounters(registry, "tiny"),
                               {.flush = absl::Hours(1), .on_change = nullptr});
    auto& blue = served.Of(TenantIndex{1});
    blue.prompt_tokens.Add(100);
    blue.cached_tokens.Add(64);
    blue.completion_tokens.Add(7);
    for (size_t i = 0; i < kNumOutcomes; ++i) blue.requests[i].Add(static_cast<double>(i + 1));
    blue.texts_refused.Add(11);
    scheduled[1].compute_seconds.Add(0.25);
    scheduled[1].kv_byte_seconds.Add(1000.75);
    for (size_t i = 0; i < kNumShedReasons; ++i) {
      scheduled[1].shed[i].Add(static_cast<double>(i + 21));
    }
  }
  const std::vector<UsageRow> rows = Read();
  ASSERT_EQ(rows.size(), 1);
  EXPECT_EQ(rows[0].tenant, "blue");
  EXPECT_THAT(rows[0].counts, testing::ElementsAre(28, 1, 6, 5, 7, 100, 64, 7, 1000, 250'000));
  std::map<std::string, int64_t> refusals = {{"texts", 11}, {"invalid", 2}, {"unavailable", 4}};
  for (size_t i = 0; i < kNumShedReasons; ++i) {
    refusals[ShedReasonName(static_cast<ShedReason>(i))] = static_cast<int64_t>(i) + 21;
  }
  EXPECT_EQ(rows[0].refusals, refusals);
}

TEST_F(UsageTest, ATenantThatComesWhileTheServiceRunsHasItsRowsAndOthersKeepTheirs) {
  MetricsRegistry registry;
  GenerationMetrics served(registry, tenants_, "tiny");
  {
    UsageService service(std::move(ledger_), UsageCounters(registry, "tiny"),
                         {.flush = absl::Hours(1), .on_change = nullptr});
    served.AddTenants({"red", "blue", "new"});
    service.SetTenants({"red", "blue", "new"});
    served.Of(TenantIndex{1}).prompt_tokens.Add(1);
    served.Of(TenantIndex{2}).prompt_tokens.Add(2);
  }
  const std::vector<UsageRow> rows = Read({.by = UsageBy::kTenant});
  ASSERT_EQ(rows.size(), 2);
  for (const UsageRow& row : rows) {
    EXPECT_EQ(row.counts[static_cast<size_t>(UsageColumn::kPromptTokens)],
              row.tenant == "new" ? 2 : 1);
  }
}

TEST_F(UsageTest, TheServiceTellsOnceThatTheDiskFailsAndOnceThatAllIsWell) {
  std::atomic<int64_t> requests = 1;
  std::vector<absl::Status> told;
  absl::Notification failed, well;
  {
    auto full = std::make_unique<FullDisk>();
    const UsageService service(
        std::move(ledger_),
        [&](const std::vector<std::string>&) {
          std::vector<UsageTotals> totals(2);
          totals[0][UsageColumn::kRequests] = requests++;
          return totals;
        },
        {.flush = absl::Milliseconds(1), .on_change = [&](const absl::Status& status) {
           told.push_back(status);
           (status.ok() ? well : failed).Notify();
         }});
    failed.WaitForNotification();
    for (const int64_t seen = requests; requests < seen + 3;) absl::SleepFor(absl::Milliseconds(1));
    full.reset();
    well.WaitForNotification();
  }
  ASSERT_EQ(told.size(), 2);
  EXPECT_EQ(told[0].code(), absl::StatusCode::kUnavailable) << told[0];
  EXPECT_EQ(Read()[0].counts[0], static_cast<double>(requests - 1));
}

}  // namespace
}  // namespace holdfast
