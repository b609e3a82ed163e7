#include "server/usage_service.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "config/base/clock.h"
#include "config/base/concat.h"
#include "config/ids.h"
#include "scheduler/metrics.h"
#include "server/generation_metrics.h"

namespace holdfast {
namespace {

// Counters are of doubles, exact to 2^53. Rounded down, so that what is not whole yet comes later.
int64_t Whole(const Counter& counter, double scale = 1) {
  return static_cast<int64_t>(std::floor(counter.value() * scale));
}

UsageTotals TotalsOf(const TenantGenerationMetrics& served, SchedulerMetrics::Tenant& scheduled) {
  UsageTotals totals;
  const auto ended = [&](Outcome outcome) {
    return Whole(served.requests[static_cast<size_t>(outcome)]);
  };
  for (size_t i = 0; i < kNumOutcomes; ++i) {
    totals[UsageColumn::kRequests] += ended(static_cast<Outcome>(i));
  }
  totals[UsageColumn::kOk] = ended(Outcome::kOk);
  totals[UsageColumn::kCancelled] = ended(Outcome::kCancelled);
  totals[UsageColumn::kTimedOut] = ended(Outcome::kTimeout);
  totals[UsageColumn::kFailed] = ended(Outcome::kError);
  totals[UsageColumn::kPromptTokens] = Whole(served.prompt_tokens);
  totals[UsageColumn::kCachedTokens] = Whole(served.cached_tokens);
  totals[UsageColumn::kCompletionTokens] = Whole(served.completion_tokens);
  totals[UsageColumn::kKvByteSeconds] = Whole(scheduled.kv_byte_seconds);
  totals[UsageColumn::kComputeMicroseconds] = Whole(scheduled.compute_seconds, 1e6);
  for (size_t i = 0; i < kNumShedReasons; ++i) {
    totals.refusals[i] = Whole(scheduled.Shed(static_cast<ShedReason>(i)));
  }
  totals.refusals[kNumShedReasons] = Whole(served.texts_refused);
  totals.refusals[kNumShedReasons + 1] = ended(Outcome::kInvalid);
  totals.refusals[kNumShedReasons + 2] = ended(Outcome::kUnavailable);
  static_assert(kNumShedReasons + 3 == kRefusalReasons.size());
  return totals;
}

}  // namespace

UsageService::ReadTotals UsageCounters(MetricsRegistry& registry, const std::string& model) {
  struct Handles {
    TenantGenerationMetrics served;
    SchedulerMetrics::Tenant scheduled;
  };
  return [&registry, model,
          handles = std::vector<Handles>()](const std::vector<std::string>& tenants) mutable {
    for (size_t i = handles.size(); i < tenants.size(); ++i) {
      handles.push_back({.served = GenerationMetrics::OfTenant(registry, tenants[i], model),
                         .scheduled = SchedulerMetrics::OfTenant(registry, tenants[i])});
    }
    std::vector<UsageTotals> totals;
    totals.reserve(handles.size());
    for (Handles& tenant : handles) totals.push_back(TotalsOf(tenant.served, tenant.scheduled));
    return totals;
  };
}

UsageService::UsageService(std::unique_ptr<UsageLedger> ledger, ReadTotals read,
                           UsageOptions options)
    : ledger_(std::move(ledger)), read_(std::move(read)), options_(std::move(options)) {
  thread_ = std::thread([this] { Loop(); });
}

UsageService::~UsageService() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

// A question at a time, and a write that is due comes first: neither holds up the other for longer
// than one takes.
void UsageService::Loop() noexcept {
  absl::Time write_at = SteadyNow() + options_.flush;
  for (bool stopping = false; !stopping;) {
    std::optional<Question> question;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(this, &UsageService::HasNews),
                              write_at - SteadyNow());
      stopping = stopping_;
      if (!stopping && !questions_.empty() && SteadyNow() < write_at) {
        question = std::move(questions_.front());
        questions_.pop_front();
      }
    }
    if (question) {
      question->done(options_.answer(question->ask));
      continue;
    }
    Write();
    write_at = SteadyNow() + options_.flush;
  }
  RefuseAll();
}

void UsageService::RefuseAll() {
  std::deque<Question> questions;
  {
    absl::MutexLock lock(&mutex_);
    questions.swap(questions_);
  }
  for (const Question& question : questions) {
    question.done(absl::UnavailableError("the daemon is stopping; ask again once it is back"));
  }
}

void UsageService::SetTenants(std::vector<std::string> names) {
  absl::MutexLock lock(&mutex_);
  tenants_ = std::move(names);
}

void UsageService::Write() {
  {
    absl::MutexLock lock(&mutex_);
    if (tenants_) ledger_->SetTenants(*std::exchange(tenants_, std::nullopt));
  }
  absl::Status status = ledger_->Add(read_(ledger_->tenants()));
  if (status.ok()) {
    status = ledger_->DeleteOld(options_.keep);
    if (!status.ok()) {
      status = absl::Status(status.code(), Concat("deleting old hours: ", status.message()));
    }
  }
  if (failing_ != !status.ok() && options_.on_change) options_.on_change(status);
  failing_ = !status.ok();
}

bool UsageService::Ask(UsageAsk ask, Done done) {
  absl::MutexLock lock(&mutex_);
  if (questions_.size() >= kUsageAsksMax) return false;
  const auto of_same = [&](const Question& other) { return other.ask.tenant == ask.tenant; };
  if (std::count_if(questions_.begin(), questions_.end(), of_same) >=
      static_cast<std::ptrdiff_t>(kUsageAsksOfOneMax)) {
    return false;
  }
  questions_.push_back({std::move(ask), std::move(done)});
  return true;
}

}  // namespace holdfast
