// What stands in the file or on the command line, as the value of a setting.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "config/daemon_config_table.h"

namespace holdfast {

// Reads one scalar of the file or the command line into its slot; lists take one entry. The error
// says what was wanted and found, without naming the setting. `slot` is unchanged then.
absl::Status ReadSetting(const Setting& setting, std::string_view text, const SettingSlot& slot);

}  // namespace holdfast
