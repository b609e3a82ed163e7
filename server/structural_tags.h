// Tags in free text whose content is held to a schema, as vLLM, SGLang and XGrammar take them:
//
//   {"structures": [{"begin": "<f>", "schema": {...}, "end": "</f>"}, ...], "triggers": ["<f"]}
//   {"format": {"type": "triggered_tags", "triggers": [...], "at_least_one": false,
//               "stop_after_first": false, "tags": [{"begin": ..., "end": ...,
//               "content": {"type": "json_schema", "json_schema": {...}}}, ...]}}
//
// Thread: any; pure.
#pragma once

#include "server/json_body.h"

namespace holdfast {

// Reads either form from `tags`; what text/src/structural_tag.rs reads. Its `type` is the caller's.
Json ReadStructuralTags(JsonFields& tags);

}  // namespace holdfast
