#include "server/heap_trim.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>

namespace holdfast {
namespace {

std::optional<int64_t> ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t all_pages = 0, resident_pages = 0;
  if (!(file >> all_pages >> resident_pages)) return std::nullopt;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

}  // namespace

HeapTrim::Heap HeapTrim::OfThisProcess() {
  return {.resident_bytes = ResidentBytes, .trim = [] { malloc_trim(0); }};
}

std::optional<HeapTrim::Sizes> HeapTrim::Look() {
  const std::optional<int64_t> before = heap_.resident_bytes();
  if (!before) return std::nullopt;
  if (looked_ && *before < least_bytes_ + kHeapTrimGrowthBytes) {
    least_bytes_ = std::min(least_bytes_, *before);
    return std::nullopt;
  }
  looked_ = true;
  heap_.trim();
  least_bytes_ = heap_.resident_bytes().value_or(*before);
  return Sizes{.before_bytes = *before, .after_bytes = least_bytes_};
}

}  // namespace holdfast
