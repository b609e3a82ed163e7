// What serving takes besides the engine: the processor time of a token on its way from the
// scheduler to a client on the same machine (scheduler, streams, gRPC, and the client's own
// reading), measured with all of that as the daemon runs it and an engine that waits instead of
// computing.
//
// An engine that uses every core runs slower by it.
#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "text/text.h"

namespace holdfast {

// Takes about two seconds, and a port of loopback meanwhile. `engine`: sizes alone.
absl::StatusOr<absl::Duration> MeasureTokenServing(const EngineInfo& engine,
                                                   const Tokenizer& tokenizer);

}  // namespace holdfast
