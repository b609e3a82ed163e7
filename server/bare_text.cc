#include "server/bare_text.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <utility>

namespace holdfast {
namespace {

constexpr int kReferencesMax = 8;  // one behind the other
constexpr uint64_t kLengthMax = 1 << 20;
constexpr size_t kChoiceBytes = 4;  // of a choice, besides its text

bool IsAnnotation(const std::string& word) {
  static constexpr std::string_view kWords[] = {"title",    "description", "default",  "examples",
                                                "$comment", "deprecated",  "readOnly", "writeOnly"};
  return std::find(std::begin(kWords), std::end(kWords), word) != std::end(kWords);
}

// But for annotations and what is named.
bool HasOnly(const Json& schema, std::initializer_list<const char*> words) {
  for (const auto& [word, value] : schema.items()) {
    if (!IsAnnotation(word) && std::find(words.begin(), words.end(), word) == words.end()) {
      return false;
    }
  }
  return true;
}

bool Spend(size_t amount, size_t& left) {
  if (amount > left) return false;
  left -= amount;
  return true;
}

// "#/$defs/NAME" and "#/definitions/NAME".
const Json* Referenced(const Json& root, const std::string& reference, BareTextBudget& budget) {
  if (!Spend(reference.size() + root.size(), budget.fields_left)) return nullptr;
  for (const char* place : {"$defs", "definitions"}) {
    const std::string prefix = std::string("#/") + place + "/";
    const auto named = root.find(place);
    if (!reference.starts_with(prefix) || named == root.end() || !named->is_object()) continue;
    if (!Spend(named->size(), budget.fields_left)) return nullptr;
    const auto found = named->find(reference.substr(prefix.size()));
    if (found != named->end()) return &*found;
  }
  return nullptr;
}

std::optional<BareText> Read(const Json& root, const Json& schema, int references,
                             BareTextBudget& budget);

// False: they are too many.
bool AddChoices(const Json& values, BareText& text, BareTextBudget& budget) {
  const bool null_fits = std::exchange(text.may_be_null, false);
  text.choices.emplace();
  for (const Json& value : values) {
    if (value.is_null()) text.may_be_null = null_fits;
    const auto* choice = value.get_ptr<const std::string*>();
    if (choice == nullptr) continue;
    if (!Spend(choice->size() + kChoiceBytes, budget.choice_bytes_left)) return false;
    text.choices->push_back(*choice);
  }
  return true;
}

bool HasLength(const BareText& text) { return text.length_min || text.length_max; }

std::optional<int64_t> Length(const Json& schema, const char* word) {
  const auto length = schema.find(word);
  if (length == schema.end() || !length->is_number_unsigned()) return std::nullopt;
  const auto characters = length->get<uint64_t>();
  return characters > kLengthMax ? std::nullopt : std::optional<int64_t>(characters);
}

bool IsNull(const Json& schema) {
  if (!schema.is_object() || !HasOnly(schema, {"type"})) return false;
  const auto type = schema.find("type");
  return type != schema.end() && *type == "null";
}

bool HasTwice(std::vector<std::string> choices) {
  std::sort(choices.begin(), choices.end());
  return std::adjacent_find(choices.begin(), choices.end()) != choices.end();
}

// What can be one or the other.
std::optional<BareText> ReadAny(const Json& root, const Json& schemas, int references,
                                BareTextBudget& budget, bool only_one) {
  if (!Spend(schemas.size(), budget.fields_left)) return std::nullopt;
  std::optional<BareText> any;
  int num_texts = 0, num_nulls = 0;
  for (const Json& schema : schemas) {
    if (IsNull(schema)) {
      ++num_nulls;
      continue;
    }
    std::optional<BareText> one = Read(root, schema, references, budget);
    if (!one.has_value()) return std::nullopt;
    ++num_texts;
    if (one->may_be_null) ++num_nulls;
    if (!any.has_value()) {
      any = std::move(one);
      continue;
    }
    any->is_all = any->is_all && one->is_all && !HasLength(*any) && !HasLength(*one);
    any->length_min = any->length_max = std::nullopt;
    if (!one->choices.has_value()) any->choices.reset();
    if (any->choices.has_value()) {
      any->choices->insert(any->choices->end(), one->choices->begin(), one->choices->end());
    }
  }
  if (!any.has_value()) return any;
  any->may_be_null = num_nulls > 0;
  const bool overlaps =
      num_nulls > 1 || (num_texts > 1 && (!any->choices.has_value() || HasTwice(*any->choices)));
  if (only_one && overlaps) any->is_all = false;
  return any;
}

std::optional<BareText> ReadType(const Json& schema, BareTextBudget& budget) {
  BareText text;
  const auto type = schema.find("type");
  const auto values = schema.find("enum"), constant = schema.find("const");
  const bool has_values = values != schema.end() && values->is_array();
  const size_t num_values =
      (type == schema.end() ? 0 : type->size()) + (has_values ? values->size() : 0);
  if (!Spend(num_values, budget.fields_left)) return std::nullopt;
  if (type == schema.end()) {  // then the values tell
    const auto is_text = [](const Json& value) { return value.is_string(); };
    const bool all =
        has_values && !values->empty() && std::all_of(values->begin(), values->end(), is_text);
    if (!all && !(constant != schema.end() && constant->is_string())) return std::nullopt;
  } else if (type->is_array()) {
    for (const Json& one : *type) {
      if (one != "string" && one != "null") return std::nullopt;
      if (one == "null") text.may_be_null = true;
    }
    if (std::find(type->begin(), type->end(), "string") == type->end()) return std::nullopt;
  } else if (*type != "string") {
    return std::nullopt;
  }
  if (has_values) {
    if (!AddChoices(*values, text, budget)) return std::nullopt;
  } else if (constant != schema.end()) {
    if (!AddChoices(Json::array({*constant}), text, budget)) return std::nullopt;
  }
  text.length_min = Length(schema, "minLength");
  text.length_max = Length(schema, "maxLength");
  text.is_all = HasOnly(schema, {"type", "enum", "const", "minLength", "maxLength"}) &&
                schema.contains("minLength") == text.length_min.has_value() &&
                schema.contains("maxLength") == text.length_max.has_value() &&
                !(text.choices.has_value() && HasLength(text)) &&
                !(has_values && constant != schema.end());
  return text;
}

std::optional<BareText> Read(const Json& root, const Json& schema, int references,
                             BareTextBudget& budget) {
  if (!schema.is_object() || !Spend(1 + schema.size(), budget.fields_left)) return std::nullopt;
  if (const auto reference = schema.find("$ref"); reference != schema.end()) {
    const auto* where = reference->get_ptr<const std::string*>();
    if (where == nullptr || references == 0 || !HasOnly(schema, {"$ref"})) return std::nullopt;
    const Json* found = Referenced(root, *where, budget);
    return found == nullptr ? std::nullopt : Read(root, *found, references - 1, budget);
  }
  for (const char* word : {"anyOf", "oneOf", "allOf"}) {
    const auto schemas = schema.find(word);
    if (schemas == schema.end()) continue;
    const bool is_one = schemas->is_array() && schemas->size() == 1;
    const bool readable = schemas->is_array() && (is_one || std::string_view(word) != "allOf");
    if (!readable || references == 0 || !HasOnly(schema, {word})) return std::nullopt;
    return ReadAny(root, *schemas, references - 1, budget, std::string_view(word) == "oneOf");
  }
  return ReadType(schema, budget);
}

}  // namespace

BareTexts BareTextsOf(const Json& parameters, BareTextBudget& budget) {
  BareTexts texts;
  const auto properties = parameters.find("properties");
  if (properties == parameters.end() || !properties->is_object()) return texts;
  for (const auto& [name, schema] : properties->items()) {
    if (std::optional<BareText> text = Read(parameters, schema, kReferencesMax, budget)) {
      texts[name] = *std::move(text);
    }
  }
  return texts;
}

}  // namespace holdfast
