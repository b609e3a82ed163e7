#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <queue>
#include <utility>

#include "absl/strings/numbers.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "workload/json_row.h"
#include "workload/random_source.h"
#include "workload/trace_readers.h"
#include "workload/workload_file.h"

namespace holdfast {
namespace {

using nlohmann::json;

constexpr size_t kWindowsMax = 100'000;
constexpr double kTimeMax = 1e9;  // seconds

struct Layout {
  double window_s = 0, token_window_s = 0;
  std::vector<double> quantiles;  // rising, in (0, 1)
};

// Nothing: the line is no such metadata.
std::optional<Layout> ReadLayout(const json& row) {
  const auto window_s = NumberOf(FieldOf(row, "window_s"));
  const auto token_window_s = NumberOf(FieldOf(row, "token_window_s"));
  std::optional<std::vector<double>> quantiles = AmountsOf(FieldOf(row, "quantiles"));
  if (!window_s || !token_window_s || !quantiles || quantiles->empty()) return std::nullopt;
  const bool in_order = std::adjacent_find(quantiles->begin(), quantiles->end(),
                                           std::greater_equal<>()) == quantiles->end();
  if (!(*window_s >= 1 && *token_window_s >= 1) || !in_order || quantiles->front() <= 0 ||
      quantiles->back() >= 1) {
    return std::nullopt;
  }
  return Layout{*window_s, *token_window_s, *std::move(quantiles)};
}

// Of one token window.
struct Lengths {
  std::vector<double> input, output;  // at the layout's quantiles
};

struct Client {
  std::string name;
  std::vector<double> rates, cvs;      // by window
  std::map<int64_t, Lengths> lengths;  // by the start of the window, in seconds
};

std::optional<std::vector<double>> ReadQuantiles(const json& value, const Layout& layout) {
  std::optional<std::vector<double>> amounts = AmountsOf(value);
  if (!amounts || amounts->size() != layout.quantiles.size() ||
      !std::is_sorted(amounts->begin(), amounts->end()) || amounts->back() > kRequestTokensMax) {
    return std::nullopt;
  }
  return amounts;
}

// The reason to drop it, or nothing.
std::optional<std::string_view> ReadClient(const json& row, const Layout& layout, Client& client) {
  std::optional<std::vector<double>> rates = AmountsOf(FieldOf(row, "rate"));
  std::optional<std::vector<double>> cvs = AmountsOf(FieldOf(row, "cv"));
  const json& tokens = FieldOf(row, "tokens");
  if (!rates || !cvs || !tokens.is_object()) return "bad_row";
  if (rates->size() != cvs->size() || rates->size() > kWindowsMax) return "bad_row";
  if (std::any_of(rates->begin(), rates->end(), [](double rate) { return rate > 1e9; })) {
    return "bad_number";
  }
  for (const auto& [start, entry] : tokens.items()) {
    const std::optional<std::vector<double>> input =
        ReadQuantiles(FieldOf(entry, "input_tokens"), layout);
    const std::optional<std::vector<double>> output =
        ReadQuantiles(FieldOf(entry, "output_tokens"), layout);
    int64_t start_s = 0;
    if (!input || !output || !absl::SimpleAtoi(start, &start_s)) return "bad_number";
    client.lengths[start_s] = {*input, *output};
  }
  if (client.lengths.empty()) return "no_lengths";
  client.name = TextOf(FieldOf(row, "client")).value_or("");
  client.rates = *std::move(rates);
  client.cvs = *std::move(cvs);
  return std::nullopt;
}

// Below the first quantile and above the last one: theirs; nothing is known of the tails.
int32_t DrawLength(const std::vector<double>& quantiles, const std::vector<double>& amounts,
                   RandomSource& random) {
  const double at = random.Uniform();
  const auto above = std::upper_bound(quantiles.begin(), quantiles.end(), at);
  const auto i = static_cast<size_t>(above - quantiles.begin());
  double amount = 0;
  if (i == 0) {
    amount = amounts.front();
  } else if (i == quantiles.size()) {
    amount = amounts.back();
  } else {
    const double part = (at - quantiles[i - 1]) / (quantiles[i] - quantiles[i - 1]);
    amount = amounts[i - 1] + part * (amounts[i] - amounts[i - 1]);
  }
  return std::max(static_cast<int32_t>(std::lround(amount)), 1);
}

// The arrivals of one client in time order. A wait is drawn in mean gaps and lived through at the
// rate of each window that it spans, so that windows keep their rates whatever the bursts.
class ClientArrivals final {
 public:
  ClientArrivals(const Client& client, double window_s, double rate_scale, double from_s,
                 RandomSource random)
      : client_(client),
        window_s_(window_s),
        rate_scale_(rate_scale),
        now_s_(from_s),
        random_(random) {
    Advance(DrawUnitFirstWait(Cv(), random_));
  }

  double now_s() const { return now_s_; }  // infinite: no more
  void Next() { Advance(DrawUnitWait(Cv(), random_)); }
  RandomSource& random() { return random_; }

 private:
  // Too few arrivals to tell a cv: 0 at the source, taken as Poisson.
  double Cv() const {
    const size_t window = Window();
    if (window >= client_.cvs.size() || client_.cvs[window] == 0) return 1;
    return std::min(client_.cvs[window], kArrivalCvMax);
  }
  size_t Window() const {
    const double window = now_s_ / window_s_;
    return window < static_cast<double>(kWindowsMax) ? static_cast<size_t>(window) : kWindowsMax;
  }

  void Advance(double wait) {
    for (size_t window = Window(); window < client_.rates.size(); ++window) {
      const double rate = client_.rates[window] * rate_scale_;
      const double left_s = std::max((static_cast<double>(window) + 1) * window_s_ - now_s_, 0.0);
      if (wait < rate * left_s) {
        now_s_ += wait / rate;
        return;
      }
      wait -= rate * left_s;
      now_s_ = (static_cast<double>(window) + 1) * window_s_;
    }
    now_s_ = HUGE_VAL;
  }

  const Client& client_;
  double window_s_, rate_scale_, now_s_;
  RandomSource random_;
};

// How many requests the clients send in [from_s, until_s), on average.
double ExpectedRequests(const std::vector<Client>& clients, double window_s, double from_s,
                        double until_s) {
  double requests = 0;
  for (const Client& client : clients) {
    for (size_t window = 0; window < client.rates.size(); ++window) {
      const double start_s = static_cast<double>(window) * window_s;
      const double inside_s = std::min(start_s + window_s, until_s) - std::max(start_s, from_s);
      requests += client.rates[window] * std::max(inside_s, 0.0);
    }
  }
  return requests;
}

absl::Status DrawRequests(const std::vector<Client>& clients, const Layout& layout,
                          const WorkloadOptions& options, TraceRows& rows) {
  const double from_s = std::clamp(absl::ToDoubleSeconds(options.from), 0.0, kTimeMax);
  const double until_s = std::clamp(absl::ToDoubleSeconds(options.until), 0.0, kTimeMax);
  const double expected =
      options.rate_scale * ExpectedRequests(clients, layout.window_s, from_s, until_s);
  constexpr int64_t kRequestsMax = kRowsMax / 2;
  if (expected > static_cast<double>(kRequestsMax) && options.programs_max > kRequestsMax) {
    return absl::InvalidArgumentError(
        Concat("these clients send about ", std::llround(expected), " requests; wanted at most ",
               kRequestsMax, "; take a shorter window, a smaller rate scale or fewer programs"));
  }
  std::vector<ClientArrivals> arrivals;
  std::vector<int32_t> tenants;
  using Next = std::pair<double, size_t>;  // when, which client
  std::priority_queue<Next, std::vector<Next>, std::greater<>> queue;
  arrivals.reserve(clients.size());
  for (size_t i = 0; i < clients.size(); ++i) {
    arrivals.emplace_back(clients[i], layout.window_s, options.rate_scale, from_s,
                          RandomSource(options.seed, i));
    tenants.push_back(
        rows.Tenant(clients[i].name.empty() ? Concat("client-", i) : clients[i].name));
    queue.emplace(arrivals[i].now_s(), i);
  }
  while (!queue.empty() && queue.top().first < until_s &&
         static_cast<int64_t>(rows.programs().size()) < options.programs_max) {
    const auto [at_s, i] = queue.top();
    queue.pop();
    // The token window that has begun last; before the first one, the first.
    const auto after = clients[i].lengths.upper_bound(static_cast<int64_t>(at_s));
    const Lengths& lengths =
        after == clients[i].lengths.begin() ? after->second : std::prev(after)->second;
    const int32_t input = DrawLength(layout.quantiles, lengths.input, arrivals[i].random());
    const int32_t output = DrawLength(layout.quantiles, lengths.output, arrivals[i].random());
    RETURN_IF_ERROR(rows.Read());
    rows.AddRequest(absl::Seconds(at_s), {{rows.FreshRun(), input}}, output);
    rows.programs().back().tenant = tenants[i];
    arrivals[i].Next();
    queue.emplace(arrivals[i].now_s(), i);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Trace> ReadClientRates(LineFile& file, const WorkloadOptions& options) {
  TraceRows rows;
  std::optional<Layout> layout;
  std::vector<Client> clients;
  RETURN_IF_ERROR(ForEachLine(file, rows, [&](const std::string& line) -> absl::Status {
    const std::optional<json> row = ParseJsonRow(line);
    if (row && !layout) layout = ReadLayout(*row);
    if (row && FieldOf(*row, "meta") == true) return absl::OkStatus();
    std::optional<std::string_view> reason = "bad_row";
    Client client;
    if (row && layout) reason = ReadClient(*row, *layout, client);
    if (!reason) {
      clients.push_back(std::move(client));
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(rows.Read());
    rows.Drop(*reason);
    return absl::OkStatus();
  }));
  if (!layout) {
    return absl::InvalidArgumentError(
        Concat(file.path(),
               " has no line with window_s, token_window_s and rising quantiles; wanted "
               "clients' statistics in ServeGen's form"));
  }
  RETURN_IF_ERROR(DrawRequests(clients, *layout, options, rows));
  rows.Assume(
      "requests are drawn from clients' statistics: Gamma waits, lengths straight between "
      "quantiles, input and output apart; clients whose lengths are not known are left out");
  rows.Assume(Concat("bursts above cv ", kArrivalCvMax,
                     " are drawn as that; windows without a cv "
                     "as Poisson"));
  Trace trace = std::move(rows).Finish(NameOfFile(file.path()));
  trace.has_own_zero = true;
  trace.rates_are_scaled = true;
  return trace;
}

}  // namespace holdfast
