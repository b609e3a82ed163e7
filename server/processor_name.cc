#include "server/processor_name.h"

#include <fstream>

namespace holdfast {

std::string ProcessorName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
    break;
  }
  return "processor";
}

}  // namespace holdfast
