// The spans of a request: where its time went.
//
//   POST /v1/chat/completions                              (HTTP; of gRPC there is none of its own)
//   └ generation            arrival ────────────────────────────────────────► end
//     ├ tool_gap      (before it) last turn's end ► arrival
//     ├ queue                     arrival ► admitted: tokenized, then waiting for its turn
//     ├ kv_restore                          admitted ► what lay in lower tiers is back
//     ├ prefill                                       ► first token
//     └ decode                                          first token ► end
//
// Attributes are named as in OpenTelemetry's conventions for HTTP and generative AI, where these
// have a name, else holdfast.*.
//
// Thread: any.
#pragma once

#include <string_view>

#include "server/generation_record.h"
#include "server/http_server.h"
#include "server/tracer.h"

namespace holdfast {

// Nothing is added where the trace is not sampled. `tenant` and `model`: their names.
void AddHttpSpan(const HttpAccess& access, std::string_view tenant, Tracer& tracer);
void AddGenerationSpans(const GenerationRecord& record, std::string_view tenant,
                        std::string_view model, Tracer& tracer);

}  // namespace holdfast
