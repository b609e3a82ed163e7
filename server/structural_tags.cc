#include "server/structural_tags.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/limits.h"

namespace holdfast {
namespace {

Json ReadTriggers(JsonFields& fields) {
  const Json* triggers = fields.Array("triggers", kTagTriggersMax);
  if (triggers == nullptr) {
    fields.Missing("triggers");
    return Json::array();
  }
  for (const Json& trigger : *triggers) {
    if (trigger.is_string()) continue;
    fields.Fail(
        "triggers", "invalid_type",
        absl::StrCat(fields.PathOf("triggers"), " must hold strings; got ", JsonKindName(trigger)));
  }
  return *triggers;
}

std::string ReadMark(JsonFields& tag, const char* name) {
  std::optional<std::string> mark = tag.String(name, kTagMarkBytesMax);
  if (!mark.has_value()) tag.Missing(name);
  return mark.value_or("");
}

// A schema, or true or false.
Json ReadSchema(JsonFields& fields, const char* name) {
  const Json* schema = fields.Find(name);
  if (schema == nullptr) {
    fields.Missing(name);
  } else if (!schema->is_object() && !schema->is_boolean()) {
    fields.Fail(
        name, "invalid_type",
        absl::StrCat(fields.PathOf(name), " must be a schema; got ", JsonKindName(*schema)));
  } else {
    return *schema;
  }
  return Json(true);
}

Json ReadContent(JsonFields& tag) {
  const Json* content = tag.Object("content");
  if (content == nullptr) {
    tag.Missing("content");
    return Json(true);
  }
  JsonFields inner(*content, tag.PathOf("content"));
  const std::string type = inner.String("type", 64).value_or("");
  if (type != "json_schema") {
    inner.Fail("type", "invalid_value",
               absl::StrCat(inner.PathOf("type"), " must be 'json_schema'; got '", type, "'"));
  }
  Json schema = ReadSchema(inner, "json_schema");
  if (absl::Status status = inner.Finish(); !status.ok()) tag.Fail(status);
  return schema;
}

// `place`: of the list, as the request names it within the tags.
Json ReadTags(JsonFields& fields, const char* name, const std::string& place) {
  Json read = Json::array();
  const Json* list = fields.Array(name, kToolsMax);
  if (list == nullptr) {
    fields.Missing(name);
    return read;
  }
  const auto& items = *list->get_ptr<const Json::array_t*>();
  for (size_t i = 0; i < items.size() && fields.ok(); ++i) {
    JsonFields tag(items[i], absl::StrCat(fields.PathOf(name), "[", i, "]"));
    const bool is_new = place != name;
    if (is_new && tag.String("type", 64).value_or("tag") != "tag") {
      tag.Fail("type", "invalid_value", absl::StrCat(tag.PathOf("type"), " must be 'tag'"));
    }
    std::string begin = ReadMark(tag, "begin");
    Json schema = is_new ? ReadContent(tag) : ReadSchema(tag, "schema");
    std::string end = ReadMark(tag, "end");
    if (absl::Status status = tag.Finish(); !status.ok()) fields.Fail(status);
    read.push_back({{"begin", std::move(begin)},
                    {"end", std::move(end)},
                    {"schema", std::move(schema)},
                    {"place", absl::StrCat(place, "[", i, "]")}});
  }
  return read;
}

}  // namespace

Json ReadStructuralTags(JsonFields& tags) {
  Json read = {{"at_least_one", false}, {"stop_after_first", false}};
  const Json* format = tags.Object("format");
  if (format == nullptr) {
    read["tags"] = ReadTags(tags, "structures", "structures");
    read["triggers"] = ReadTriggers(tags);
    return read;
  }
  JsonFields inner(*format, tags.PathOf("format"));
  const std::string type = inner.String("type", 64).value_or("");
  if (type != "triggered_tags") {
    inner.Fail("type", "invalid_value",
               absl::StrCat(inner.PathOf("type"), " must be 'triggered_tags'; got '", type, "'"));
  }
  read["tags"] = ReadTags(inner, "tags", "format.tags");
  read["triggers"] = ReadTriggers(inner);
  read["at_least_one"] = inner.Boolean("at_least_one").value_or(false);
  read["stop_after_first"] = inner.Boolean("stop_after_first").value_or(false);
  if (absl::Status status = inner.Finish(); !status.ok()) tags.Fail(status);
  return read;
}

}  // namespace holdfast
