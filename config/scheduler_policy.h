// Which published idea orders the queue and keeps an agent's KV, by what requests of one rank are
// ordered, and whether tokens are drafted: the names of the configuration file as types.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace holdfast {

// kContinuum: Continuum (2025), with the baselines that it is compared to.
enum class SchedulerPolicy : uint8_t {
  kFcfsLru,      // requests by arrival; nothing is kept beyond what eviction leaves
  kProgramFcfs,  // programs by their first arrival; nothing is kept
  kFixedTtl,     // as kProgramFcfs, and each turn's KV is kept for a fixed time
  kInfercept,    // keeps, swaps or drops by the least waste (InferCept, ICML 2024)
  kPlas,         // the program with the least service first (PLAS of Autellix, 2025)
  kContinuum,    // programs by arrival, KV kept for a time that measured cost decides
};
inline constexpr std::array<std::string_view, 6> kSchedulerPolicyNames = {
    "fcfs_lru", "program_fcfs", "fixed_ttl", "infercept", "plas", "continuum"};

// Within one rank of the policy.
enum class WaitOrder : uint8_t {
  kRemainingWork,  // least left to compute first
  kHitRate,        // largest cached share of the prompt first (KVShare as published)
  kArrival,
};
inline constexpr std::array<std::string_view, 3> kWaitOrderNames = {"remaining_work", "hit_rate",
                                                                    "arrival"};

// Whether tokens that a sequence will probably draw are computed ahead of being drawn.
enum class Speculation : uint8_t {
  kOff,
  kAuto,    // where they are likely enough for what they cost
  kAlways,  // wherever there is a guess: for tests and comparisons
};
inline constexpr std::array<std::string_view, 3> kSpeculationNames = {"off", "auto", "always"};

inline constexpr std::string_view Name(SchedulerPolicy policy) {
  return kSchedulerPolicyNames[static_cast<size_t>(policy)];
}
inline constexpr std::string_view Name(WaitOrder order) {
  return kWaitOrderNames[static_cast<size_t>(order)];
}

inline constexpr std::string_view Name(Speculation speculation) {
  return kSpeculationNames[static_cast<size_t>(speculation)];
}

// nullopt: no such name.
inline constexpr std::optional<SchedulerPolicy> SchedulerPolicyOf(std::string_view name) {
  for (size_t i = 0; i < kSchedulerPolicyNames.size(); ++i) {
    if (kSchedulerPolicyNames[i] == name) return static_cast<SchedulerPolicy>(i);
  }
  return std::nullopt;
}
inline constexpr std::optional<WaitOrder> WaitOrderOf(std::string_view name) {
  for (size_t i = 0; i < kWaitOrderNames.size(); ++i) {
    if (kWaitOrderNames[i] == name) return static_cast<WaitOrder>(i);
  }
  return std::nullopt;
}

inline constexpr std::optional<Speculation> SpeculationOf(std::string_view name) {
  for (size_t i = 0; i < kSpeculationNames.size(); ++i) {
    if (kSpeculationNames[i] == name) return static_cast<Speculation>(i);
  }
  return std::nullopt;
}

}  // namespace holdfast
