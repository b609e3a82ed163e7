#include "server/json_body.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "config/limits.h"
#include "server/http_status.h"

namespace holdfast {
namespace {

// Builds the value while counting. The parser is not recursive, the value's own destructor neither;
// the depth bound is for those who walk it, above all the template engine.
class BoundedBuilder final : public nlohmann::json_sax<Json> {
 public:
  explicit BoundedBuilder(bool bounded) : bounded_(bounded) {}
  Json& root() { return root_; }
  const std::string& fault() const { return fault_; }

  bool null() override { return Put(Json()); }
  bool boolean(bool value) override { return Put(Json(value)); }
  bool number_integer(int64_t value) override { return Put(Json(value)); }
  bool number_unsigned(uint64_t value) override { return Put(Json(value)); }
  bool number_float(double value, const std::string&) override { return Put(Json(value)); }
  bool string(std::string& value) override { return Put(Json(std::move(value))); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool key(std::string& name) override {
    key_ = std::move(name);
    return true;
  }
  bool end_object() override {
    const std::string* twice = FieldTwice(*open_.back()->get_ptr<const Json::object_t*>());
    if (twice != nullptr) {
      fault_ = absl::StrCat("field '", twice->substr(0, 64), "' occurs twice in one object");
      return false;
    }
    open_.pop_back();
    return true;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    fault_ = absl::StrCat("syntax error near byte ", position);
    return false;
  }

 private:
  // Appends without the linear search for an equal key that ordered_json does for each field; a
  // body of a million fields would take minutes. end_object looks once, by sorting.
  Json* Append(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (auto* array = parent.get_ptr<Json::array_t*>(); array != nullptr) {
      return &array->emplace_back(std::move(value));
    }
    auto* object = parent.get_ptr<Json::object_t*>();
    return &object->emplace_back(std::move(key_), std::move(value)).second;
  }
  bool Put(Json value) {
    Append(std::move(value));
    return true;
  }
  bool Open(Json container) {
    if (bounded_ && static_cast<int32_t>(open_.size()) >= kJsonDepthMax) {
      fault_ = absl::StrCat("nested deeper than ", kJsonDepthMax);
      return false;
    }
    if (bounded_ && ++num_containers_ > kJsonContainersMax) {
      fault_ = absl::StrCat("more than ", kJsonContainersMax, " objects and arrays");
      return false;
    }
    open_.push_back(Append(std::move(container)));
    return true;
  }
  static const std::string* FieldTwice(const Json::object_t& object) {
    if (object.size() < 2) return nullptr;
    std::vector<const std::string*> names;
    names.reserve(object.size());
    for (const auto& field : object) names.push_back(&field.first);
    std::sort(names.begin(), names.end(), [](auto* a, auto* b) { return *a < *b; });
    const auto twice =
        std::adjacent_find(names.begin(), names.end(), [](auto* a, auto* b) { return *a == *b; });
    return twice == names.end() ? nullptr : *twice;
  }

  const bool bounded_;
  Json root_;
  std::vector<Json*> open_;  // containers not yet closed, outermost first
  std::string key_;
  std::string fault_;
  int32_t num_containers_ = 0;
};

}  // namespace

absl::StatusOr<Json> ParseJson(absl::string_view text) {
  BoundedBuilder builder(true);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return ParameterError("", "invalid_json",
                          absl::StrCat("the body must be JSON in UTF-8; found: ", builder.fault()));
  }
  return std::move(builder.root());
}

absl::StatusOr<Json> ParseOwnJson(absl::string_view text) {
  BoundedBuilder builder(false);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return absl::DataLossError(absl::StrCat("what was kept is not JSON: ", builder.fault()));
  }
  return std::move(builder.root());
}

std::string DumpJson(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  absl::StrReplaceAll({{"\u0085", "\\u0085"}, {"\u2028", "\\u2028"}, {"\u2029", "\\u2029"}}, &text);
  return text;
}

const char* JsonKindName(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::number_float:
      return "a decimal number";
    default:
      return "an integer";
  }
}

std::optional<int64_t> AsInteger(const Json& value) {
  if (const auto* number = value.get_ptr<const Json::number_unsigned_t*>(); number != nullptr) {
    if (*number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(*number);
  }
  if (const auto* number = value.get_ptr<const Json::number_integer_t*>(); number != nullptr) {
    return *number;
  }
  if (const auto* number = value.get_ptr<const Json::number_float_t*>(); number != nullptr) {
    constexpr double kExactMax = 9007199254740992.0;  // 2^53: beyond it a double skips integers
    if (std::trunc(*number) != *number || std::abs(*number) > kExactMax) return std::nullopt;
    return static_cast<int64_t>(*number);
  }
  return std::nullopt;
}

JsonFields::JsonFields(const Json& object, std::string path)
    : object_(&object), path_(std::move(path)) {
  if (!object.is_object()) {
    status_ = ParameterError(path_, "invalid_type",
                             absl::StrCat(path_.empty() ? "the body" : path_,
                                          " must be an object; got ", JsonKindName(object)));
    return;
  }
  if (object.size() > kJsonFieldsMax) {
    status_ =
        ParameterError(path_, "invalid_value",
                       absl::StrCat(path_.empty() ? "the body" : path_, " has ", object.size(),
                                    " fields; at most ", kJsonFieldsMax, " are taken"));
    return;
  }
  known_.resize(object.size());
}

std::string JsonFields::PathOf(absl::string_view name) const {
  return path_.empty() ? std::string(name) : absl::StrCat(path_, ".", name);
}

const Json* JsonFields::Find(absl::string_view name) {
  if (!status_.ok()) return nullptr;
  const auto& fields = *object_->get_ptr<const Json::object_t*>();
  for (size_t i = 0; i < fields.size(); ++i) {
    if ((fields.begin() + i)->first != name) continue;
    known_[i] = true;
    return (fields.begin() + i)->second.is_null() ? nullptr : &(fields.begin() + i)->second;
  }
  return nullptr;
}

void JsonFields::WrongType(absl::string_view name, const char* wanted, const Json& found) {
  Fail(name, "invalid_type",
       absl::StrCat(PathOf(name), " must be ", wanted, "; got ", JsonKindName(found)));
}

std::optional<bool> JsonFields::Boolean(absl::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const auto* boolean = value->get_ptr<const bool*>();
  if (boolean == nullptr) {
    WrongType(name, "a boolean", *value);
    return std::nullopt;
  }
  return *boolean;
}

std::optional<double> JsonFields::Number(absl::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    WrongType(name, "a number", *value);
    return std::nullopt;
  }
  if (const auto* number = value->get_ptr<const Json::number_unsigned_t*>(); number != nullptr) {
    return static_cast<double>(*number);
  }
  if (const auto* number = value->get_ptr<const Json::number_integer_t*>(); number != nullptr) {
    return static_cast<double>(*number);
  }
  return *value->get_ptr<const Json::number_float_t*>();
}

std::optional<int64_t> JsonFields::Integer(absl::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> integer = AsInteger(*value);
  if (!integer.has_value()) {
    if (value->is_number()) {
      Fail(name, "invalid_value",
           absl::StrCat(PathOf(name), " must be an integer of 64 bits; got ", DumpJson(*value)));
    } else {
      WrongType(name, "an integer", *value);
    }
  }
  return integer;
}

std::optional<int32_t> JsonFields::Integer32(absl::string_view name) {
  const std::optional<int64_t> integer = Integer(name);
  if (!integer.has_value()) return std::nullopt;
  if (*integer < std::numeric_limits<int32_t>::min() ||
      *integer > std::numeric_limits<int32_t>::max()) {
    Fail(name, "invalid_value", absl::StrCat(PathOf(name), " must fit in 32 bits; got ", *integer));
    return std::nullopt;
  }
  return static_cast<int32_t>(*integer);
}

std::optional<std::string> JsonFields::String(absl::string_view name, size_t bytes_max) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const auto* text = value->get_ptr<const std::string*>();
  if (text == nullptr) {
    WrongType(name, "a string", *value);
    return std::nullopt;
  }
  if (text->size() > bytes_max) {
    Fail(name, "string_above_max_length",
         absl::StrCat(PathOf(name), " has ", text->size(), " bytes; at most ", bytes_max,
                      " are taken"));
    return std::nullopt;
  }
  return *text;
}

const Json* JsonFields::Array(absl::string_view name, size_t items_max) {
  const Json* value = Find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) {
    WrongType(name, "an array", *value);
    return nullptr;
  }
  if (value->size() > items_max) {
    Fail(name, "array_above_max_length",
         absl::StrCat(PathOf(name), " has ", value->size(), " items; at most ", items_max,
                      " are taken"));
    return nullptr;
  }
  return value;
}

const Json* JsonFields::Object(absl::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) {
    WrongType(name, "an object", *value);
    return nullptr;
  }
  return value;
}

void JsonFields::Unsupported(absl::string_view name, absl::string_view advice) {
  if (Find(name) == nullptr) return;
  Fail(name, "unsupported_parameter",
       absl::StrCat(PathOf(name), " is not supported here; ", advice));
}

void JsonFields::Fail(absl::string_view name, absl::string_view code, absl::string_view message) {
  Fail(ParameterError(PathOf(name), code, message));
}

void JsonFields::Fail(absl::Status fault) { status_.Update(fault); }

void JsonFields::Missing(absl::string_view name) {
  Fail(name, "missing_required_parameter",
       absl::StrCat(PathOf(name), " is required and was not given"));
}

absl::Status JsonFields::Finish() {
  if (!status_.ok()) return status_;
  const auto& fields = *object_->get_ptr<const Json::object_t*>();
  for (size_t i = 0; i < fields.size(); ++i) {
    if (known_[i]) continue;
    const std::string path = PathOf((fields.begin() + i)->first.substr(0, 128));
    return ParameterError(path, "unknown_parameter",
                          absl::StrCat("Unrecognized request argument supplied: ", path));
  }
  return absl::OkStatus();
}

}  // namespace holdfast
