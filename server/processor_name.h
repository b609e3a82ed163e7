#pragma once

#include <string>

namespace holdfast {

// As the system names the processor of this machine; "processor" where it does not.
std::string ProcessorName();

}  // namespace holdfast
