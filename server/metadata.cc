#include "server/metadata.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "server/http_status.h"

namespace holdfast {

absl::Status CheckMetadata(const Json& metadata) {
  const auto refuse = [](absl::string_view what) {
    return ParameterError("metadata", "invalid_value", what);
  };
  if (metadata.size() > kMetadataMax) {
    return refuse(absl::StrCat("metadata may have ", kMetadataMax, " entries"));
  }
  for (const auto& [key, value] : metadata.items()) {
    if (key.size() > kMetadataKeyBytesMax || !value.is_string() ||
        value.get_ref<const std::string&>().size() > kMetadataValueBytesMax) {
      return refuse(absl::StrCat("metadata takes texts of at most ", kMetadataValueBytesMax,
                                 " bytes under names of at most ", kMetadataKeyBytesMax));
    }
  }
  return absl::OkStatus();
}

}  // namespace holdfast
