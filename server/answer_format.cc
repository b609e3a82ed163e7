#include "server/answer_format.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "config/limits.h"
#include "server/http_status.h"

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

// A rule of it begins a line with its name and "::=".
bool IsGbnf(std::string_view grammar) {
  for (const absl::string_view line :
       absl::StrSplit(absl::string_view(grammar.data(), grammar.size()), '\n')) {
    const size_t at = line.find("::=");
    if (at == absl::string_view::npos) continue;
    const absl::string_view name = absl::StripAsciiWhitespace(line.substr(0, at));
    const bool is_name = std::all_of(name.begin(), name.end(), [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
    });
    if (is_name && !name.empty()) return true;
  }
  return false;
}

void ReadGrammarText(JsonFields& inner, GenerationRequest& request) {
  std::optional<std::string> grammar = inner.String("grammar");
  if (!grammar.has_value()) return;
  if (IsGbnf(*grammar)) {
    return inner.Fail("grammar", "unsupported_parameter",
                      absl::StrCat(inner.PathOf("grammar"),
                                   " is GBNF or the like; only Lark is supported here: rules as "
                                   "'start: ...'"));
  }
  SetGrammar(inner, inner.PathOf("grammar"), GrammarKind::kLark, *std::move(grammar), request);
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
  } else if (*type != "text") {
    inner.Fail("type", "invalid_value",
               absl::StrCat("response_format.type must be 'text', 'json_object' or 'json_schema'; "
                            "got '",
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
  ReadGrammarText(inner, request);
  inner.Unsupported("structural_tag", "leave it out");
  if (absl::Status status = inner.Finish(); !status.ok()) return fields.Fail(status);
  if (request.grammar.has_value()) return;
  fields.Fail("structured_outputs", "invalid_value",
              "structured_outputs must have one of json, json_object, regex, choice and grammar");
}

}  // namespace holdfast
