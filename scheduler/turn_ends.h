// Which turn a new prompt goes on from, where its request names no session: the turns that have
// lately ended are remembered by the tokens with which they ended, and a prompt that begins with
// one of them is that program's next turn.
//
//   prompt of turn 1 | completion of turn 1
//   ─────────────────┴──────────╴proof
//   prompt of turn 2 ────────────────────────────────►  begins with it: the same program
//
// What agents share, a system prompt or all of a first prompt, proves nothing; so the proof ends
// kProofTokens into the completion, or with it. Who says the same to the same prompt is the same
// conversation as far as anyone can tell, so nothing is lost by taking one for the other. Each end
// is continued once: of two that go on from it (a fork) the first is the program's next turn and
// the other a program of its own.
//
// A turn alone is no program: only the second gives it a name, and a place in the program table.
//
// Never across tenants, whose ends are apart, nor across reuse scopes, which are compared and the
// root of every key. A collision of keys mistakes one conversation of the tenant for another: it
// costs a worse guess of when its next turn comes and no answer.
//
// Source: "derive a program id ... only when the server can match the new prompt to a previous turn
// by prefix", Continuum's reproduction plan; proof, bounds and forks are ours.
// Thread: the scheduler's alone.    Bound: kEndsMax ends of each tenant, kSameEndsMax of one key,
// for keep_max; beyond, the oldest are forgotten. Calls are O(1), but KeyOf and Take: O(blocks of
// the prompt).
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "config/ids.h"
#include "kvstore/block_key.h"
#include "kvstore/reuse_scope.h"

namespace holdfast {

// The first turn of a program that may become one.
struct FirstTurn {
  uint64_t arrival = 0;
  absl::Time arrived, finished;
  absl::Duration service;
  std::string tool;  // that its answer calls; empty: none that is known
};

class TurnEnds final {
 public:
  static constexpr size_t kEndsMax = 1024;
  static constexpr size_t kSameEndsMax = 16;
  static constexpr int32_t kProofTokens = 16;

  TurnEnds(BlockKeyFunctions keys, int32_t num_tenants,
           absl::Duration keep_max = absl::Minutes(10));

  void AddTenant() { tenants_.emplace_back(); }  // behind the others

  // The key of a prompt's full blocks.
  struct PromptKey {
    BlockKey key;
    int32_t num_blocks = 0;
  };
  struct End {
    std::string session;             // of the program; empty: the turn was its first
    std::optional<FirstTurn> first;  // then
  };

  // The end that a prompt goes on from, the longest if there are several; it is taken out. `key` is
  // set to the prompt's.
  std::optional<End> Take(TenantIndex tenant, const ReuseScope& scope,
                          std::span<const TokenId> prompt, absl::Time now, PromptKey& key);

  // A turn has ended with `tokens`, whose first prompt_size are its prompt, of `key`. Where they
  // prove too little nothing is remembered.
  void Add(TenantIndex tenant, const ReuseScope& scope, std::span<const TokenId> tokens,
           int32_t prompt_size, const PromptKey& key, RequestId turn, End&& end, absl::Time now);
  // What the turn's answer calls, where it is a first one and known here.
  void NameTool(RequestId turn, std::string_view tool);

  size_t size(TenantIndex tenant) const { return Of(tenant).ends.size(); }
  void CheckInvariants() const;  // stops the process; for tests

 private:
  struct Known {
    ReuseScope scope{};
    BlockKey key;
    std::vector<TokenId> tail;  // after the key's blocks, up to the end of the proof
    RequestId turn{};
    absl::Time ended;
    End end;
  };
  using Ends = std::list<Known>;  // the oldest first
  struct KeyHash {                // a key is a hash already
    size_t operator()(const BlockKey& key) const { return key.low; }
  };
  struct Tenant {
    Ends ends;
    absl::flat_hash_map<BlockKey, std::vector<Ends::iterator>, KeyHash> by_key;  // the oldest first
  };

  Tenant& Of(TenantIndex tenant) { return tenants_[static_cast<size_t>(Number(tenant))]; }
  const Tenant& Of(TenantIndex tenant) const {
    return tenants_[static_cast<size_t>(Number(tenant))];
  }
  void Forget(Tenant& tenant, Ends::iterator end);

  const BlockKeyFunctions keys_;
  const absl::Duration keep_max_;
  std::vector<Tenant> tenants_;
  absl::flat_hash_map<RequestId, Ends::iterator> first_turns_;  // those without a session
};

}  // namespace holdfast
