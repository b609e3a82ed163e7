#include "server/kv_event_codec.h"

#include "config/limits.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

using Json = nlohmann::ordered_json;

const char* MediumOf(TierKind tier) {
  switch (tier) {
    case TierKind::kDevice:
      return "GPU";  // whatever the device is: what readers take for the first tier
    case TierKind::kHost:
      return "CPU";
    case TierKind::kDisk:
    case TierKind::kRemote:
      break;
  }
  return "STORAGE";
}

bool Continues(const KvEvent& event, const KvEvent& before) {
  if (event.kind != before.kind || event.tier != before.tier) return false;
  if (event.kind == KvEvent::Kind::kStored) return event.has_parent && event.parent == before.block;
  return event.kind == KvEvent::Kind::kRemoved;
}

Json StoredAsJson(std::span<const KvEvent> run) {
  Json hashes = Json::array(), tokens = Json::array();
  for (const KvEvent& event : run) {
    hashes.push_back(event.block);
    for (const TokenId token : event.tokens) tokens.push_back(token);
  }
  Json parent;
  if (run.front().has_parent) parent = run.front().parent;
  return {{"type", "BlockStored"},
          {"block_hashes", std::move(hashes)},
          {"parent_block_hash", parent},
          {"token_ids", std::move(tokens)},
          {"block_size", kBlockTokens},
          {"lora_id", nullptr},
          {"medium", MediumOf(run.front().tier)},
          {"lora_name", nullptr}};
}

Json AsJson(std::span<const KvEvent> run) {
  switch (run.front().kind) {
    case KvEvent::Kind::kStored:
      return StoredAsJson(run);
    case KvEvent::Kind::kRemoved: {
      Json hashes = Json::array();
      for (const KvEvent& event : run) hashes.push_back(event.block);
      return {{"type", "BlockRemoved"},
              {"block_hashes", std::move(hashes)},
              {"medium", MediumOf(run.front().tier)}};
    }
    case KvEvent::Kind::kCleared:
      break;
  }
  return {{"type", "AllBlocksCleared"}};
}

}  // namespace

std::vector<uint8_t> EncodeKvEvents(std::span<const KvEvent> events, absl::Time now) {
  Json encoded = Json::array();
  for (size_t first = 0, end = 0; first < events.size(); first = end) {
    end = first + 1;
    while (end < events.size() && Continues(events[end], events[end - 1])) ++end;
    encoded.push_back(AsJson(events.subspan(first, end - first)));
  }
  Json batch = Json::array();
  batch.push_back(absl::ToDoubleSeconds(now - absl::UnixEpoch()));
  batch.push_back(std::move(encoded));
  batch.push_back(0);  // of one rank
  return Json::to_msgpack(batch);
}

}  // namespace holdfast
