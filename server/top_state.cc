#include "server/top_state.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

// Fields of what a daemon of another version may not have: null, 0 or empty where there is none.
const Json& At(const Json& object, const char* name) {
  static const Json none;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return found == object.end() ? none : *found;
}

const Json::array_t& Items(const Json& object, const char* name) {
  static const Json::array_t none;
  const auto* items = At(object, name).get_ptr<const Json::array_t*>();
  return items == nullptr ? none : *items;
}

int64_t Integer(const Json& object, const char* name) {
  return AsInteger(At(object, name)).value_or(0);
}

std::string Text(const Json& object, const char* name) {
  const auto* text = At(object, name).get_ptr<const std::string*>();
  return text == nullptr ? "" : *text;
}

bool IsTrue(const Json& object, const char* name) {
  const auto* is = At(object, name).get_ptr<const bool*>();
  return is != nullptr && *is;
}

absl::StatusOr<Json> Read(std::string_view text, std::string_view object) {
  absl::StatusOr<Json> json = ParseOwnJson(AbslView(text));
  if (json.ok() && Text(*json, "object") == object) return json;
  return absl::DataLossError("what answers is no holdfast daemon of this version");
}

TopState::Whole ReadWhole(const Json& queue, const Json& tiers) {
  const Json& device = At(tiers, kTopTiers[0]);
  TopState::Whole whole{.running = Integer(queue, "running"),
                        .running_max = Integer(queue, "running_max"),
                        .waiting = Integer(queue, "waiting"),
                        .free = Integer(device, "free_blocks"),
                        .held = Integer(device, "held_blocks"),
                        .pinned = Integer(queue, "pinned_blocks"),
                        .evictable = Integer(device, "evictable_blocks"),
                        .moving = Integer(device, "moving_blocks")};
  // Asked for one after the other, so that the two may differ.
  whole.pinned = std::min(whole.pinned, whole.held);
  for (size_t i = 0; i < kTopTiers.size(); ++i) {
    whole.capacity[i] = Integer(At(tiers, kTopTiers[i]), "capacity_blocks");
  }
  return whole;
}

std::string Reasons(const Json& counts) {
  std::vector<std::string> reasons;
  for (const auto& [reason, count] : counts.items()) {
    if (const auto number = AsInteger(count).value_or(0); number > 0) {
      reasons.push_back(Concat(reason, " ", number));
    }
  }
  return ConcatList(reasons, ", ");
}

std::vector<TopState::Tenant> ReadTenants(const Json& queue, const Json& kv) {
  std::map<std::string, const Json*> places;
  for (const Json& one : Items(kv, "tenants")) places[Text(one, "tenant")] = &one;
  std::vector<TopState::Tenant> tenants;
  for (const Json& one : Items(queue, "tenants")) {
    const Json& programs = At(one, "programs");
    TopState::Tenant& tenant =
        tenants.emplace_back(TopState::Tenant{.name = Text(one, "tenant"),
                                              .why = Reasons(At(one, "waiting_by_reason")),
                                              .running = Integer(one, "running"),
                                              .waiting = Integer(one, "waiting"),
                                              .pinned = Integer(one, "pinned_blocks"),
                                              .programs = Integer(programs, "known"),
                                              .programs_paused = Integer(programs, "paused")});
    const auto found = places.find(tenant.name);
    if (found == places.end()) continue;
    for (size_t i = 0; i < kTopTiers.size(); ++i) {
      tenant.blocks[i] = Integer(At(At(*found->second, "tiers"), kTopTiers[i]), "blocks");
    }
  }
  const auto busy = [](const TopState::Tenant& tenant) {
    return std::tuple(tenant.running + tenant.waiting, tenant.blocks);
  };
  std::stable_sort(tenants.begin(), tenants.end(),
                   [&busy](const auto& a, const auto& b) { return busy(a) > busy(b); });
  return tenants;
}

std::string StageOf(const Json& running) {
  if (IsTrue(running, "restoring")) return "restoring";
  const int64_t prompt = Integer(running, "prompt_tokens");
  const int64_t completion = Integer(running, "completion_tokens");
  const int64_t computed = Integer(running, "computed_tokens");
  if (completion == 0 && computed < prompt) return Concat("prompt ", computed, "/", prompt);
  const bool again = computed + 1 < prompt + completion;  // after it gave way to others
  return again ? Concat("again ", computed, "/", prompt + completion) : "drawing";
}

TopState::Sequence ReadSequence(const Json& one, std::string stage) {
  const int64_t choice = Integer(one, "choice");
  return {.request = Concat(Text(one, "id"), choice > 0 ? Concat(" (", choice, ")") : ""),
          .tenant = Text(one, "tenant"),
          .session = Text(one, "session"),
          .priority = IsTrue(one, "offline") ? "offline" : Concat(Integer(one, "priority")),
          .stage = std::move(stage),
          .prompt_tokens = Integer(one, "prompt_tokens"),
          .completion_tokens = Integer(one, "completion_tokens"),
          .blocks = Integer(one, "blocks"),
          .age = absl::Milliseconds(Integer(one, "age_ms"))};
}

}  // namespace

absl::StatusOr<TopState> ReadTopState(std::string_view queue_text, std::string_view kv_text,
                                      std::string_view pins_text) {
  ASSIGN_OR_RETURN(const Json queue, Read(queue_text, "queue"));
  ASSIGN_OR_RETURN(const Json kv, Read(kv_text, "kv_cache"));
  ASSIGN_OR_RETURN(const Json pins, Read(pins_text, "list"));
  TopState state{.policy = Text(queue, "policy"),
                 .order = Text(queue, "order"),
                 .block_bytes = Integer(kv, "block_bytes"),
                 .tenants = ReadTenants(queue, kv),
                 .running_total = Integer(queue, "running_total"),
                 .waiting_total = Integer(queue, "waiting_total"),
                 .pins_total = Integer(pins, "total")};
  if (const Json& whole = At(queue, "whole"); whole.is_object()) {
    state.whole = ReadWhole(whole, At(kv, "tiers"));
  }
  for (const Json& one : Items(queue, "running")) {
    state.running.push_back(ReadSequence(one, StageOf(one)));
  }
  for (const Json& one : Items(queue, "waiting")) {
    state.waiting.push_back(ReadSequence(one, Text(one, "reason")));
  }
  for (const Json& one : Items(pins, "data")) {
    state.pins.push_back({.tenant = Text(one, "tenant"),
                          .session = Text(one, "session"),
                          .why = Text(one, "state"),
                          .blocks = Integer(one, "blocks"),
                          .left = absl::Milliseconds(Integer(one, "expires_in_ms"))});
  }
  return state;
}

std::string ReadTopError(std::string_view answer) {
  const absl::StatusOr<Json> json = ParseOwnJson(AbslView(answer));
  return json.ok() ? Text(At(*json, "error"), "message") : "";
}

}  // namespace holdfast
