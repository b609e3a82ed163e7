// Which rule orders the turns of agent programs and keeps their KV between turns. An operator
// chooses one; `continuum` is the product's, the others are what it is compared with.
//
//   policy        who goes first            what stays pinned while a tool runs
//   fcfs_lru      the earlier request       nothing
//   program_fcfs  the earlier program       nothing
//   fixed_ttl     the earlier program       two seconds' worth of quick tools (fixed_ttl.h)
//   infercept     the earlier program       until keeping has cost what discarding does
//                                           (infercept.h)
//   plas          the less served program   nothing (plas.h)
//   continuum     the earlier program       as long as a hit is worth it (continuum.h)
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace holdfast {

enum class ProgramPolicy : uint8_t {
  kFcfsLru,
  kProgramFcfs,
  kFixedTtl,
  kInferCept,
  kPlas,
  kContinuum,
};

constexpr const char* ProgramPolicyName(ProgramPolicy policy) {
  switch (policy) {
    case ProgramPolicy::kFcfsLru:
      return "fcfs_lru";
    case ProgramPolicy::kProgramFcfs:
      return "program_fcfs";
    case ProgramPolicy::kFixedTtl:
      return "fixed_ttl";
    case ProgramPolicy::kInferCept:
      return "infercept";
    case ProgramPolicy::kPlas:
      return "plas";
    case ProgramPolicy::kContinuum:
      return "continuum";
  }
  return "unknown";
}

constexpr std::optional<ProgramPolicy> ProgramPolicyOfName(std::string_view name) {
  for (const auto policy :
       {ProgramPolicy::kFcfsLru, ProgramPolicy::kProgramFcfs, ProgramPolicy::kFixedTtl,
        ProgramPolicy::kInferCept, ProgramPolicy::kPlas, ProgramPolicy::kContinuum}) {
    if (name == ProgramPolicyName(policy)) return policy;
  }
  return std::nullopt;
}

// Whether a turn stands in the queue where its program's first turn would.
constexpr bool OrdersByProgram(ProgramPolicy policy) { return policy != ProgramPolicy::kFcfsLru; }

// Whether it pins. Then a turn whose program has a live pin goes before those that have none: its
// memory is held anyway.
constexpr bool PinsPrograms(ProgramPolicy policy) {
  return policy == ProgramPolicy::kFixedTtl || policy == ProgramPolicy::kInferCept ||
         policy == ProgramPolicy::kContinuum;
}

}  // namespace holdfast
