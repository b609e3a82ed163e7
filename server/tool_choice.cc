#include "server/tool_choice.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "server/bare_text.h"
#include "server/http_status.h"
#include "server/tool_call_format.h"

namespace holdfast {
namespace {

struct Choice {
  enum class Mode : uint8_t { kNone, kAuto, kRequired, kOne };
  Mode mode = Mode::kAuto;
  std::vector<std::string> names;  // of the functions that may be called; empty: all
};

bool HasTool(const Json& tools, const std::string& name) {
  return std::any_of(tools.begin(), tools.end(),
                     [&](const Json& tool) { return tool["function"]["name"] == name; });
}

// {"type": "function", "function": {"name": ...}}
void ReadFunctionName(JsonFields& choice, const Json& tools, Choice& into) {
  const Json* function = choice.Object("function");
  if (function == nullptr) return choice.Missing("function");
  JsonFields inner(*function, choice.PathOf("function"));
  const std::optional<std::string> name = inner.String("name", kToolNameBytesMax);
  if (!name.has_value()) {
    inner.Missing("name");
  } else if (!HasTool(tools, *name)) {
    inner.Fail("name", "invalid_value",
               absl::StrCat(inner.PathOf("name"), " is '", *name, "', which is none of the tools"));
  } else {
    into.names.push_back(*name);
  }
  if (absl::Status status = inner.Finish(); !status.ok()) choice.Fail(status);
}

void ReadAllowedTools(JsonFields& choice, const Json& tools, Choice& into) {
  const Json* allowed = choice.Object("allowed_tools");
  if (allowed == nullptr) return choice.Missing("allowed_tools");
  JsonFields inner(*allowed, choice.PathOf("allowed_tools"));
  const std::optional<std::string> mode = inner.String("mode", 64);
  if (!mode.has_value()) {
    inner.Missing("mode");
  } else if (*mode != "auto" && *mode != "required") {
    inner.Fail(
        "mode", "invalid_value",
        absl::StrCat(inner.PathOf("mode"), " must be 'auto' or 'required'; got '", *mode, "'"));
  }
  into.mode = mode == "required" ? Choice::Mode::kRequired : Choice::Mode::kAuto;
  const Json* list = inner.Array("tools", kToolsMax);
  if (list == nullptr || list->empty()) inner.Missing("tools");
  if (inner.ok()) {
    const auto& items = *list->get_ptr<const Json::array_t*>();
    for (size_t i = 0; i < items.size() && inner.ok(); ++i) {
      JsonFields item(items[i], absl::StrCat(inner.PathOf("tools"), "[", i, "]"));
      if (item.String("type", 64).value_or("") != "function" && item.ok()) {
        item.Fail("type", "invalid_value",
                  absl::StrCat(item.PathOf("type"), " must be 'function'"));
      }
      ReadFunctionName(item, tools, into);
      if (absl::Status status = item.Finish(); !status.ok()) inner.Fail(status);
    }
  }
  if (absl::Status status = inner.Finish(); !status.ok()) choice.Fail(status);
}

void ReadChoiceObject(JsonFields& fields, const Json& choice, const Json& tools, Choice& into) {
  JsonFields inner(choice, "tool_choice");
  const std::optional<std::string> type = inner.String("type", 64);
  if (!type.has_value()) {
    inner.Missing("type");
  } else if (*type == "function") {
    into.mode = Choice::Mode::kOne;
    ReadFunctionName(inner, tools, into);
  } else if (*type == "allowed_tools") {
    ReadAllowedTools(inner, tools, into);
  } else {
    inner.Fail("type", "invalid_value",
               absl::StrCat("tool_choice.type must be 'function' or 'allowed_tools'; got '",
                            type->substr(0, 64), "'"));
  }
  if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
}

Choice ReadChoice(JsonFields& fields, const Json& tools) {
  Choice read;
  const Json* choice = fields.Find("tool_choice");
  if (choice == nullptr || *choice == "auto") return read;
  if (*choice == "none") {
    read.mode = Choice::Mode::kNone;
  } else if (tools.empty()) {
    fields.Fail("tool_choice", "invalid_value",
                "tool_choice other than 'none' and 'auto' needs tools; give some or leave it out");
  } else if (*choice == "required") {
    read.mode = Choice::Mode::kRequired;
  } else if (choice->is_object()) {
    ReadChoiceObject(fields, *choice, tools, read);
  } else {
    fields.Fail("tool_choice", "invalid_value",
                "tool_choice must be 'none', 'auto', 'required' or an object that names a "
                "function or some allowed tools");
  }
  return read;
}

bool IsAllowed(const Choice& choice, const std::string& name) {
  const auto& names = choice.names;
  return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

// A call in Python has no place for all that a name may hold.
void CheckNames(JsonFields& fields, const Json& tools, const Choice& choice) {
  for (size_t i = 0; i < tools.size(); ++i) {
    const auto& name = *tools[i]["function"]["name"].get_ptr<const std::string*>();
    if (name.find_first_of(":/") == name.npos || !IsAllowed(choice, name)) continue;
    const std::string param = absl::StrCat("tools[", i, "].function.name");
    return fields.Fail(ParameterError(
        param, "invalid_value",
        absl::StrCat(param,
                     " must be without ':' and '/', which calls in this model's form cannot "
                     "hold; got '",
                     name, "'")));
  }
}

Json TextsJson(const BareTexts& texts) {
  Json json = Json::object();
  for (const auto& [parameter, text] : texts) {
    json[parameter] = {
        {"may_be_null", text.may_be_null},
        {"choices", text.choices.has_value() ? Json(*text.choices) : Json()},
        {"length_min", text.length_min.value_or(0)},
        {"length_max", text.length_max.has_value() ? Json(*text.length_max) : Json()},
        {"is_all", text.is_all}};
  }
  return json;
}

// Adds to the functions which of their parameters are written bare.
BareTextsOfTools AddTexts(Json& functions) {
  BareTextsOfTools texts;
  BareTextBudget budget;
  for (Json& function : functions) {
    BareTexts found = BareTextsOf(function["parameters"], budget);
    function["texts"] = TextsJson(found);
    texts[*function["name"].get_ptr<const std::string*>()] = std::move(found);
  }
  return texts;
}

// What text/src/tool_grammar.rs reads.
Json DescribeCalls(const Json& tools, const Choice& choice, bool parallel,
                   const ToolCallSyntax& syntax) {
  Json functions = Json::array();
  for (size_t i = 0; i < tools.size(); ++i) {
    const Json& function = tools[i]["function"];
    const auto& name = *function["name"].get_ptr<const std::string*>();
    if (!IsAllowed(choice, name)) continue;
    const auto strict = function.find("strict");
    const auto parameters = function.find("parameters");
    functions.push_back({{"name", name},
                         {"parameters", parameters == function.end() ? Json() : *parameters},
                         {"strict", strict != function.end() && *strict == true},
                         {"place", absl::StrCat("tools[", i, "]")}});
  }
  const auto text = [](std::string_view view) { return std::string(view); };
  static constexpr const char* kShapes[] = {nullptr, "tags", "python"};
  const char* shape = kShapes[static_cast<size_t>(syntax.shape)];
  return {{"open", text(syntax.open)},
          {"close", text(syntax.close)},
          {"is_list", syntax.is_list},
          {"separator", text(syntax.separator)},
          {"arguments_key", text(syntax.arguments_key)},
          {"arguments_mark", text(syntax.arguments_mark)},
          {"shape", shape == nullptr ? Json() : Json(shape)},
          {"required", choice.mode != Choice::Mode::kAuto},
          {"parallel", parallel && choice.mode != Choice::Mode::kOne},
          {"functions", std::move(functions)},
          {"answer", Json()}};
}

}  // namespace

void ReadToolChoice(JsonFields& fields, ToolCallFormat format, GenerationRequest& request) {
  const Json* list = fields.Find("tools");
  const Json none = Json::array();
  const Json& tools = list == nullptr ? none : *list;
  const bool parallel = fields.Boolean("parallel_tool_calls").value_or(true);
  const Choice choice = ReadChoice(fields, tools);
  if (!fields.ok() || tools.empty() || choice.mode == Choice::Mode::kNone) return;
  const ToolCallSyntax& syntax = SyntaxOf(format);
  if (syntax.shape == ToolCallShape::kPython) CheckNames(fields, tools, choice);
  if (!fields.ok()) return;
  Json calls = DescribeCalls(tools, choice, parallel, syntax);
  std::string param = "tools";
  if (request.grammar.has_value()) {
    AnswerGrammar& answer = *request.grammar;
    if (answer.source.kind != GrammarKind::kJsonSchema) {
      return fields.Fail(
          ParameterError(answer.param, "invalid_value",
                         absl::StrCat(answer.param,
                                      " cannot be combined with tools, a schema of the answer can; "
                                      "leave one of them out or set tool_choice to 'none'")));
    }
    absl::StatusOr<Json> schema = ParseJson(answer.source.text);
    if (!schema.ok() || !schema->is_object()) {
      return fields.Fail(
          ParameterError(answer.param, "invalid_value",
                         absl::StrCat(answer.param, " must be a schema, an object of JSON")));
    }
    calls["answer"] = *std::move(schema);
    param = std::move(answer.param);
  }
  std::string description = DumpJson(calls);
  BareTextsOfTools texts;
  if (syntax.shape == ToolCallShape::kTags && description.size() <= kGrammarBytesMax) {
    texts = AddTexts(calls["functions"]);
    description = DumpJson(calls);
  }
  if (description.size() > kGrammarBytesMax) {
    return fields.Fail(ParameterError(
        "tools", "array_above_max_length",
        absl::StrCat("tools have ", description.size(), " bytes; at most ", kGrammarBytesMax,
                     " are taken; give fewer, or set tool_choice to 'none'")));
  }
  request.grammar =
      AnswerGrammar{.source = {.kind = GrammarKind::kToolCalls, .text = std::move(description)},
                    .param = std::move(param)};
  ToolCalling& use = request.tool_calls.emplace(ToolCalling{.format = format});
  for (const Json& function : calls["functions"]) {
    use.rules.names.push_back(*function["name"].get_ptr<const std::string*>());
  }
  // A schema's answer is JSON, in which what looks like a call is none.
  use.rules.only_at_start = !calls["answer"].is_null();
  use.rules.texts = std::make_shared<const BareTextsOfTools>(std::move(texts));
}

}  // namespace holdfast
