// What a client uploads for a batch: the form around it, and the lines within. Nothing crashes; a
// part's content lies within the body; and of an input without faults each line has an id of its
// own and a body that is JSON again.
//
// Input: the body of a form whose boundary is "xx".
#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>

#include "config/base/check.h"
#include "server/batch_input.h"
#include "server/form_data.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

void CheckLines(std::string_view content) {
  const BatchInput input = ReadBatchInput(content, "/v1/chat/completions");
  CHECK(input.faults.size() <= kBatchFaultsMax);
  if (!input.faults.empty()) return;
  CHECK(!input.lines.empty());
  std::set<std::string_view> ids;
  int64_t before = 0;
  for (const BatchLine& line : input.lines) {
    CHECK(line.line > before);
    before = line.line;
    CHECK(ids.insert(line.custom_id).second);
    const auto body = ParseJson(line.body);
    CHECK(body.ok() && body->is_object());
  }
}

void CheckForm(std::string_view body) {
  const auto parts = ParseFormData("multipart/form-data; boundary=xx", body);
  if (!parts.ok()) return;
  for (const FormPart& part : *parts) {
    CHECK(part.content.empty() ||
          (part.content.data() >= body.data() &&
           part.content.data() + part.content.size() <= body.data() + body.size()));
    if (part.name == "file") CheckLines(part.content);
  }
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  holdfast::CheckForm(input);
  holdfast::CheckLines(input);
  return 0;
}
