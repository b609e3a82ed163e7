// Finds and opens libholdfast_gpu.so, so that a daemon starts where there is no GPU, no driver or
// no such library.
//
// Thread: any, but one at a time. What is opened stays open to the process's end.
#pragma once

#include <string>

#include "kernels/cuda/gpu_library.h"

namespace holdfast {

inline constexpr const char* kGpuLibraryFile = "libholdfast_gpu.so";

// `path`: the library's file; empty: kGpuLibraryFile beside the program, else where the system
// looks for libraries. Null: it is not there or of another version, and `error` says what to do.
const GpuLibrary* OpenGpuLibrary(const std::string& path, std::string& error);

}  // namespace holdfast
