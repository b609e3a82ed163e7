#include "server/answer_format.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "server/http_status.h"
#include "server/structural_tags.h"

namespace holdfast {
namespace {

constexpr char kAnyObject[] = R"({"type": "object"})";

void SetGrammar(JsonFields& fields, std::string param, GrammarKind kind, std::string text,
                GenerationRequest& request) {
  if (request.grammar.has_value()) {
    return fields.Fail(
        ParameterError(param, "invalid_value",
                       absl::StrCat(param, " and ", request.grammar->param,
                                    " both say what form the answer has; give one of them")));
  }
  if (text.size() > kGrammarBytesMax) {
    return fields.Fail(ParameterError(param, "string_above_max_length",
                                      absl::StrCat(param, " has ", text.size(), " bytes; at most ",
                                                   kGrammarBytesMax, " are taken")));
  }
  request.grammar.emplace(
      AnswerGrammar{.source = {.kind = kind, .text = std::move(text)}, .param = std::move(param)});
}

void ReadJsonSchema(JsonFields& format, GenerationRequest& request) {
  const Json* described = format.Object("json_schema");
  if (described == nullptr) return format.Missing("json_schema");
  JsonFields inner(*described, format.PathOf("json_schema"));
  if (!inner.String("name", kUserStringBytesMax).has_value()) inner.Missing("name");
  inner.String("description");
  inner.Boolean("strict");
  const Json* schema = inner.Object("schema");
  if (absl::Status status = inner.Finish(); !status.ok()) return format.Fail(status);
  SetGrammar(format, inner.PathOf("schema"), GrammarKind::kJsonSchema,
             schema == nullptr ? kAnyObject : DumpJson(*schema), request);
}

void ReadSchemaOrText(JsonFields& inner, GenerationRequest& request) {
  const Json* schema = inner.Find("json");
  if (schema == nullptr) return;
  const auto* text = schema->get_ptr<const std::string*>();
  if (text == nullptr && !schema->is_object()) {
    return inner.Fail("json", "invalid_type",
                      absl::StrCat(inner.PathOf("json"),
                                   " must be a schema, as an object or as a "
                                   "string with one; got ",
                                   JsonKindName(*schema)));
  }
  SetGrammar(inner, inner.PathOf("json"), GrammarKind::kJsonSchema,
             text == nullptr ? DumpJson(*schema) : *text, request);
}

void ReadChoice(JsonFields& inner, GenerationRequest& request) {
  const Json* choices = inner.Array("choice", kGrammarChoicesMax);
  if (choices == nullptr) return;
  for (const Json& choice : *choices) {
    if (choice.is_string()) continue;
    return inner.Fail(
        "choice", "invalid_type",
        absl::StrCat(inner.PathOf("choice"), " must hold strings; got ", JsonKindName(choice)));
  }
  SetGrammar(inner, inner.PathOf("choice"), GrammarKind::kChoice, DumpJson(*choices), request);
}

// An object, or a text with one, as vLLM takes it.
void ReadStructuralTag(JsonFields& inner, GenerationRequest& request) {
  const Json* tags = inner.Find("structural_tag");
  if (tags == nullptr) return;
  Json parsed;
  if (const auto* text = tags->get_ptr<const std::string*>()) {
    absl::StatusOr<Json> read = ParseJson(*text);
    if (!read.ok()) {
      return inner.Fail(
          "structural_tag", "invalid_value",
          absl::StrCat(inner.PathOf("structural_tag"), ": ", read.status().message()));
    }
    parsed = *std::move(read);
    tags = &parsed;
  }
  JsonFields fields(*tags, inner.PathOf("structural_tag"));
  if (fields.String("type", 64).value_or("structural_tag") != "structural_tag") {
    fields.Fail("type", "invalid_value",
                absl::StrCat(fields.PathOf("type"), " must be 'structural_tag'"));
  }
  Json read = ReadStructuralTags(fields);
  if (absl::Status status = fields.Finish(); !status.ok()) return inner.Fail(status);
  SetGrammar(inner, inner.PathOf("structural_tag"), GrammarKind::kStructuralTags, DumpJson(read),
             request);
}

}  // namespace

void ReadResponseFormat(JsonFields& fields, GenerationRequest& request) {
  const Json* format = fields.Object("response_format");
  if (format == nullptr) return;
  JsonFields inner(*format, "response_format");
  const std::optional<std::string> type = inner.String("type", 64);
  if (!type.has_value()) {
    inner.Missing("type");
  } else if (*type == "json_object") {
    SetGrammar(inner, "response_format", GrammarKind::kJsonSchema, kAnyObject, request);
  } else if (*type == "json_schema") {
    ReadJsonSchema(inner, request);
  } else if (*type == "structural_tag") {
    Json tags = ReadStructuralTags(inner);
    SetGrammar(inner, "response_format", GrammarKind::kStructuralTags, DumpJson(tags), request);
  } else if (*type != "text") {
    inner.Fail("type", "invalid_value",
               absl::StrCat("response_format.type must be 'text', 'json_object', 'json_schema' or "
                            "'structural_tag'; got '",
                            *type, "'"));
  }
  if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
}

void ReadStructuredOutputs(JsonFields& fields, GenerationRequest& request) {
  const Json* outputs = fields.Object("structured_outputs");
  if (outputs == nullptr) return;
  JsonFields inner(*outputs, "structured_outputs");
  ReadSchemaOrText(inner, request);
  if (inner.Boolean("json_object").value_or(false)) {
    SetGrammar(inner, inner.PathOf("json_object"), GrammarKind::kJsonSchema, kAnyObject, request);
  }
  if (std::optional<std::string> regex = inner.String("regex")) {
    SetGrammar(inner, inner.PathOf("regex"), GrammarKind::kRegex, *std::move(regex), request);
  }
  ReadChoice(inner, request);
  if (std::optional<std::string> grammar = inner.String("grammar")) {
    SetGrammar(inner, inner.PathOf("grammar"), GrammarKind::kLark, *std::move(grammar), request);
  }
  ReadStructuralTag(inner, request);
  if (absl::Status status = inner.Finish(); !status.ok()) return fields.Fail(status);
  if (request.grammar.has_value()) return;
  fields.Fail("structured_outputs", "invalid_value",
              "structured_outputs must have one of json, json_object, regex, choice, grammar and "
              "structural_tag");
}

}  // namespace holdfast
