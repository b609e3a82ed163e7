// Makes of a trace what the options say, in this order:
//
//   1. Starts from zero; those that share a whole second are spread over it.
//   2. The window. Programs outside are dropped as `outside_window`.
//   3. length_scale, on every run, every kept part and every completion, each at least one token;
//      runs of equal id and length stay equal, and what kept all of the turn before still does.
//   4. shared_prefix_tokens, where the trace does not itself say what is shared.
//   5. The context. Dropping: a program ends before its first turn whose prompt and completion are
//      too long (`over_context`), the later ones with it (`after_over_context`). Clipping: a
//      completion takes at most half the context; of the prompt first the kept part gives way, at
//      its end and to half of the room, then the runs, at their end. A later turn keeps no more
//      than the turn before it still has.
//   6. programs_max (`beyond_limit`).
//   7. rate_scale or arrivals, think_scale.
//   8. num_tenants. Sessions of one name become two.
#pragma once

#include "workload/trace_rows.h"
#include "workload/workload_options.h"

namespace holdfast {

// `options` are checked. Sets rows_kept; then rows_read = rows_kept + all that were dropped.
Workload ShapeTrace(Trace trace, const WorkloadOptions& options);

}  // namespace holdfast
