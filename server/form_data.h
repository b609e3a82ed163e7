// A body of multipart/form-data (RFC 7578), as browsers and SDKs upload files: the parts with their
// names, pointing into the body. Neither Beast nor another library of the distribution reads it
// without a stack of its own.
//
// Thread: any; pure. Bound: kFormPartsMax.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace holdfast {

inline constexpr size_t kFormPartsMax = 64;
inline constexpr size_t kFormPartHeadBytesMax = 8 << 10;

struct FormPart {
  std::string name;
  std::string filename;      // empty: a plain field
  std::string_view content;  // of the body
};

// kInvalidArgument: `content_type` is another or names no boundary, or the body is cut or
// malformed; says what and where.
absl::StatusOr<std::vector<FormPart>> ParseFormData(std::string_view content_type,
                                                    std::string_view body);

}  // namespace holdfast
