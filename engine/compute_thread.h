// Where the threads that compute a step run. A wish: where it is refused, a step is as right and
// perhaps less even.
#pragma once

#include <cstdint>
#include <vector>

namespace holdfast {

// Numbers of the processors that the calling thread may use, ascending.
std::vector<int32_t> UsableProcessors();

// The calling thread runs on this processor alone.
void PinTo(int32_t processor);

}  // namespace holdfast
