// A request body as JSON: parsed without exceptions and under bounds, then read field by field with
// every type checked. Bytes from outside stop here.
//
// Bounds: depth kJsonDepthMax, containers kJsonContainersMax, fields of a read object
// kJsonFieldsMax. An object with a field twice is refused: two parsers would read two requests.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace holdfast {

// Keeps the order of fields, which chat templates show to the model.
using Json = nlohmann::ordered_json;

// kInvalidArgument: not JSON, not UTF-8, or beyond a bound; says where.
absl::StatusOr<Json> ParseJson(absl::string_view text);

// What DumpJson wrote: an answer has no bounds of a request's. kDataLoss: it is damaged.
absl::StatusOr<Json> ParseOwnJson(absl::string_view text);

// Never throws; what is not UTF-8 becomes U+FFFD. One line for everybody: U+0085, U+2028 and U+2029
// are escaped, at which readers of streams and of JSON Lines (httpx, Python's splitlines) end a
// line.
std::string DumpJson(const Json& value);

inline bool IsJsonSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
const char* JsonKindName(const Json& value);  // "a string", "an array", for messages

// Checked reading of one object's fields. A field that is absent or null has no value. The first
// fault is kept and later reads have no value, so that a decoder reads on and asks once, at the
// end.
//
//   JsonFields fields(body, "");
//   const auto temperature = fields.Number("temperature");
//   RETURN_IF_ERROR(fields.Finish());
class JsonFields final {
 public:
  // `path` is the object's own name in messages, "messages[3]"; empty for the body. `object` must
  // outlive the reader; something else than an object is a fault.
  JsonFields(const Json& object, std::string path);

  const Json* Find(absl::string_view name);  // any type; nullptr: absent, null or an earlier fault
  std::optional<bool> Boolean(absl::string_view name);
  std::optional<double> Number(absl::string_view name);
  std::optional<int64_t> Integer(absl::string_view name);  // 2.0 is 2
  std::optional<int32_t> Integer32(absl::string_view name);
  std::optional<std::string> String(absl::string_view name, size_t bytes_max = SIZE_MAX);
  const Json* Array(absl::string_view name, size_t items_max);
  const Json* Object(absl::string_view name);

  // Fields that we know and whose effect we do not have: a value other than null is a fault.
  void Unsupported(absl::string_view name, absl::string_view advice);
  void Fail(absl::string_view name, absl::string_view code, absl::string_view message);
  void Fail(absl::Status fault);
  void Missing(absl::string_view name);

  bool ok() const { return status_.ok(); }
  // "messages[3].role"
  std::string PathOf(absl::string_view name) const;
  // The first fault, or else a field that was never asked for.
  absl::Status Finish();

 private:
  void WrongType(absl::string_view name, const char* wanted, const Json& found);

  const Json* object_;
  std::string path_;
  std::vector<bool> known_;  // by place in the object
  absl::Status status_;
};

// An integral number within int64, written 2 or 2.0; nullopt for anything else.
std::optional<int64_t> AsInteger(const Json& value);

}  // namespace holdfast
