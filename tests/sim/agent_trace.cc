#include "tests/sim/agent_trace.h"

#include <array>
#include <map>
#include <random>
#include <string_view>

#include "config/limits.h"
#include "server/reuse_scope.h"

namespace holdfast {
namespace {

class Generator final {
 public:
  explicit Generator(uint32_t seed) : rng_(seed) {
    trace_.context_tokens = Between(6, 14) * kBlockTokens;
    // With few words the same is said after different histories.
    trace_.vocab_size = OneIn(3) ? Between(2, 4) : 1000;
    for (std::vector<TokenId>& text : texts_) text = Text(Between(3, 50));
  }

  AgentTrace Make() {
    const int32_t num_agents = Between(6, 18);
    for (int32_t i = 0; i < num_agents; ++i) trace_.agents.push_back(MakeAgent());
    return std::move(trace_);
  }

 private:
  int32_t Between(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(rng_() % static_cast<uint32_t>(high - low + 1));
  }
  bool OneIn(uint32_t count) { return rng_() % count == 0; }

  TokenId AnyToken() { return Between(0, trace_.vocab_size - 1); }
  std::vector<TokenId> Text(int32_t num_tokens) {
    std::vector<TokenId> text;
    for (int32_t i = 0; i < num_tokens; ++i) text.push_back(AnyToken());
    return text;
  }

  Agent MakeAgent() {
    Agent agent;
    const int32_t tenant = Between(0, kTraceTenants - 1);
    agent.tenant = TenantIndex{tenant};
    SetScope(agent, tenant);
    agent.session = std::array{"", "a", "b", "c"}[rng_() % 4];
    agent.arrives = absl::Milliseconds(Between(0, 250));
    const int32_t num_turns = OneIn(3) ? 1 : Between(2, 5);
    for (int32_t i = 0; i < num_turns; ++i) agent.turns.push_back(MakeTurn(agent, i));
    return agent;
  }

  // Tenants and groups of the same name; salts that read like tenants, or would if names and salts
  // were written one after the other.
  void SetScope(Agent& agent, int32_t tenant) {
    static constexpr std::array<std::string_view, kTraceTenants> kOwners = {"acme", "acm", "acme",
                                                                            "acme"};
    const std::array<std::string_view, 4> salts = {"", "", "e", "acme"};
    const std::string_view salt = salts[rng_() % salts.size()];
    using Owner = ReuseScopeParts::Owner;
    agent.scope = MakeReuseScope({.owner = tenant >= 2 ? Owner::kSharingGroup : Owner::kTenant,
                                  .owner_name = kOwners[static_cast<size_t>(tenant)],
                                  .cache_salt = salt,
                                  .kv_layout = "f16"});
    // By what it is meant to be, not by what was made of it.
    const std::pair<int32_t, std::string_view> meant = {std::min(tenant, 2), salt};
    const auto next = static_cast<uint8_t>(marks_.size() + 1);
    agent.mark = marks_.try_emplace(meant, next).first->second;
  }

  AgentTurn MakeTurn(const Agent& agent, int32_t index) {
    AgentTurn turn;
    turn.think = absl::Milliseconds(OneIn(4) ? Between(500, 5000) : Between(0, 100));
    turn.said = texts_[rng_() % texts_.size()];
    if (index == 0 && OneIn(2)) {
      const std::vector<TokenId>& more = texts_[rng_() % texts_.size()];
      turn.said.insert(turn.said.end(), more.begin(), more.end());
    }
    if (OneIn(4)) turn.said.resize(1 + rng_() % turn.said.size());
    Request& request = turn.request;
    request.max_tokens = Between(1, 24);
    // Few seeds, so that equal histories are answered equally, and go on together.
    request.sampling.seed = (rng_() % 3) * 100 + (static_cast<uint64_t>(agent.mark) << 56);
    if (OneIn(4)) {
      for (int i = 0; i < trace_.vocab_size / 25; ++i) request.stop_tokens.push_back(AnyToken());
    }
    if (OneIn(6)) request.num_choices = Between(2, 4);
    if (OneIn(8)) {
      request.prompt_top_logprobs = Between(0, 2);
      if (OneIn(2)) request.max_tokens = 0;
    }
    if (OneIn(4)) request.sampling.top_logprobs = Between(0, 3);
    request.reuse_prefix = !OneIn(10);
    if (!agent.session.empty() && !OneIn(3)) {
      request.retain = {.ttl = absl::Milliseconds(Between(0, 4000)), .priority = Between(0, 2)};
    }
    request.session_final = !agent.session.empty() && OneIn(10);
    if (OneIn(8)) turn.patience = absl::Milliseconds(Between(0, 60));
    return turn;
  }

  std::mt19937 rng_;
  AgentTrace trace_;
  std::array<std::vector<TokenId>, 5> texts_;
  std::map<std::pair<int32_t, std::string_view>, uint8_t> marks_;
};

}  // namespace

AgentTrace MakeAgentTrace(uint32_t seed) { return Generator(seed).Make(); }

}  // namespace holdfast
