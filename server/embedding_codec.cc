#include "server/embedding_codec.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "config/base/check.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/embedding.h"
#include "server/http_status.h"
#include "server/openai_codec.h"
#include "server/request_validator.h"

namespace holdfast {
namespace {

constexpr size_t kNumberBytes = 16;  // of JSON, the comma with it: 15 at most

// What all three take beside their texts.
GenerationRequest ReadShared(JsonFields& fields, const GenerationService::ModelInfo& info,
                             const FieldNames& names) {
  GenerationRequest request;
  request.model = ReadModel(fields, info);
  request.max_tokens = 0;
  request.want_text = false;
  request.names = &names;
  request.cache_salt = fields.String("cache_salt", kCacheSaltBytesMax).value_or("");
  request.priority = fields.Integer32("priority").value_or(0);
  request.offline = fields.Boolean("offline").value_or(false);
  request.embedding.emplace().pooling = info.pooling;
  fields.String("user", kUserStringBytesMax);
  return request;
}

void AddRequest(const GenerationRequest& shared, Prompt prompt, std::string param,
                std::vector<GenerationRequest>& requests) {
  GenerationRequest& request = requests.emplace_back(shared);
  request.prompt = std::move(prompt);
  request.embedding->param = std::move(param);
}

// A text or a list of them under the first of two names that is there; sets which it was.
std::vector<std::string> ReadTexts(JsonFields& fields, const char* name, const char* other_name,
                                   std::string& found) {
  const Json* value = fields.Find(name);
  const Json* other = fields.Find(other_name);
  found = value == nullptr && other != nullptr ? other_name : name;
  std::vector<std::string> texts;
  if (value == nullptr && other == nullptr) {
    fields.Missing(name);
  } else if (value != nullptr && other != nullptr) {
    fields.Fail(other_name, "invalid_value",
                absl::StrCat("give either ", name, " or ", other_name, ", not both"));
  } else if (const auto* text = (value != nullptr ? value : other)->get_ptr<const std::string*>();
             text != nullptr) {
    texts.push_back(*text);
  } else if (const Json* list = fields.Array(found, kEmbeddingInputsMax); list != nullptr) {
    for (const Json& item : *list) {
      const auto* one = item.get_ptr<const std::string*>();
      if (one == nullptr) {
        fields.Fail(found, "invalid_type",
                    absl::StrCat(found, " must hold texts; got ", JsonKindName(item)));
        return texts;
      }
      texts.push_back(*one);
    }
  }
  return texts;
}

// A document: its text, or an object that has it.
std::optional<std::string> ReadDocument(const Json& item, const std::string& param,
                                        JsonFields& fields) {
  if (const auto* text = item.get_ptr<const std::string*>(); text != nullptr) return *text;
  if (item.is_object()) {
    JsonFields inner(item, param);
    std::optional<std::string> text = inner.String("text");
    if (!text.has_value()) inner.Missing("text");
    if (absl::Status status = inner.Finish(); !status.ok()) fields.Fail(status);
    return text;
  }
  fields.Fail(
      "documents", "invalid_type",
      absl::StrCat(param, " must be a text or an object with a text; got ", JsonKindName(item)));
  return std::nullopt;
}

std::string Indexed(absl::string_view name, size_t index) {
  return absl::StrCat(name, "[", index, "]");
}

// The shortest text that reads as this float. By hand, because a Json value takes 16 bytes a
// number, prints a float with the 17 digits of a double, and there may be millions.
void AppendNumbers(const std::vector<float>& numbers, std::string& json) {
  char text[kNumberBytes];
  json += '[';
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0) json += ',';
    const auto written = std::to_chars(text, text + sizeof(text), numbers[i]);
    CHECK(written.ec == std::errc());
    json.append(text, written.ptr);
  }
  json += ']';
}

void AppendBase64(const std::vector<float>& numbers, std::string& json) {
  static_assert(std::endian::native == std::endian::little);
  absl::StrAppend(&json, "\"",
                  absl::Base64Escape({reinterpret_cast<const char*>(numbers.data()),
                                      numbers.size() * sizeof(float)}),
                  "\"");
}

}  // namespace

absl::Status CheckEmbedding(const GenerationRequest& request,
                            const GenerationService::ModelInfo& info) {
  const std::string& param = request.embedding->param;
  const auto* text = std::get_if<std::string>(&request.prompt);
  const auto* tokens = std::get_if<std::vector<TokenId>>(&request.prompt);
  if (text != nullptr ? text->empty() : tokens->empty()) {
    return ParameterError(param, "invalid_value",
                          absl::StrCat(param, " is empty; give at least one ",
                                       text != nullptr ? "character" : "token"));
  }
  if (tokens != nullptr) RETURN_IF_ERROR(CheckTokens(*tokens, param, info));
  return CheckGenerationRequest(request, info);
}

absl::Status CheckEmbeddings(const std::vector<GenerationRequest>& requests,
                             const GenerationService::ModelInfo& info) {
  if (info.embedding_size == 0) {
    return ParameterError("model", "unsupported_parameter",
                          absl::StrCat("the served model, ", info.name, ", gives no embeddings"));
  }
  CHECK(!requests.empty());
  const std::optional<int32_t> dimensions = requests.front().embedding->dimensions;
  if (dimensions.has_value() && (*dimensions < 1 || *dimensions > info.embedding_size)) {
    return ParameterError("dimensions", "invalid_value",
                          absl::StrCat("dimensions must be between 1 and ", info.embedding_size,
                                       "; got ", *dimensions));
  }
  if (dimensions.has_value() && *dimensions < info.embedding_size && !info.matryoshka) {
    return ParameterError(
        "dimensions", "unsupported_parameter",
        absl::StrCat("dimensions must be the model's own, ", info.embedding_size, "; got ",
                     *dimensions,
                     ": its embeddings mean little when they are cut short, unless it "
                     "was trained for that (setting model.matryoshka)"));
  }
  const char* const name = requests.front().names->prompt;
  const size_t most = std::min<size_t>(
      kEmbeddingInputsMax, std::max<size_t>(kEmbeddingNumbersMax / info.embedding_size, 1));
  if (requests.size() > most) {
    return ParameterError(
        name, "array_above_max_length",
        absl::StrCat(name, " has too many entries: ", requests.size(), " texts in all; at most ",
                     most, ", of ", info.embedding_size,
                     " numbers each, are taken; send several requests"));
  }
  for (const GenerationRequest& request : requests) {
    RETURN_IF_ERROR(CheckEmbedding(request, info));
  }
  return absl::OkStatus();
}

absl::StatusOr<EmbeddingCall> DecodeEmbeddings(std::string_view body,
                                               const GenerationService::ModelInfo& info) {
  ASSIGN_OR_RETURN(const Json json, ParseJson({body.data(), body.size()}));
  JsonFields fields(json, "");
  GenerationRequest shared = ReadShared(fields, info, kEmbeddingsNames);
  EmbeddingsShape shape;
  if (const auto format = fields.String("encoding_format", 64)) {
    shape.base64 = *format == "base64";
    if (!shape.base64 && *format != "float") {
      fields.Fail("encoding_format", "invalid_value",
                  absl::StrCat("encoding_format must be 'float' or 'base64'; got '", *format, "'"));
    }
  }
  shared.embedding->dimensions = fields.Integer32("dimensions");
  EmbeddingCall call{.model = shared.model, .shape = shape};
  const Json* input = fields.Find("input");
  if (input == nullptr) fields.Missing("input");
  if (fields.ok()) {
    ASSIGN_OR_RETURN(std::vector<Prompt> prompts,
                     ReadPrompts(*input, "input", kEmbeddingInputsMax));
    const bool listed = input->is_array() && !input->front().is_number();
    for (size_t i = 0; i < prompts.size(); ++i) {
      AddRequest(shared, std::move(prompts[i]), listed ? Indexed("input", i) : "input",
                 call.requests);
    }
  }
  RETURN_IF_ERROR(fields.Finish());
  RETURN_IF_ERROR(CheckEmbeddings(call.requests, info));
  return call;
}

absl::StatusOr<EmbeddingCall> DecodeScore(std::string_view body,
                                          const GenerationService::ModelInfo& info) {
  ASSIGN_OR_RETURN(const Json json, ParseJson({body.data(), body.size()}));
  JsonFields fields(json, "");
  const GenerationRequest shared = ReadShared(fields, info, kScoreNames);
  std::string queries_name, documents_name;
  std::vector<std::string> queries = ReadTexts(fields, "text_1", "queries", queries_name);
  std::vector<std::string> documents = ReadTexts(fields, "text_2", "documents", documents_name);
  if (queries.empty()) fields.Missing(queries_name);
  if (documents.empty()) fields.Missing(documents_name);
  if (queries.size() > 1 && queries.size() != documents.size()) {
    fields.Fail(
        documents_name, "invalid_value",
        absl::StrCat(documents_name, " must have as many entries as ", queries_name, ", ",
                     queries.size(), ", or ", queries_name, " only one; got ", documents.size()));
  }
  RETURN_IF_ERROR(fields.Finish());
  EmbeddingCall call{.model = shared.model, .shape = ScoreShape{.num_queries = queries.size()}};
  for (size_t i = 0; i < queries.size(); ++i) {
    AddRequest(shared, std::move(queries[i]), Indexed(queries_name, i), call.requests);
  }
  for (size_t i = 0; i < documents.size(); ++i) {
    AddRequest(shared, std::move(documents[i]), Indexed(documents_name, i), call.requests);
  }
  RETURN_IF_ERROR(CheckEmbeddings(call.requests, info));
  return call;
}

absl::StatusOr<EmbeddingCall> DecodeRerank(std::string_view body,
                                           const GenerationService::ModelInfo& info) {
  ASSIGN_OR_RETURN(const Json json, ParseJson({body.data(), body.size()}));
  JsonFields fields(json, "");
  const GenerationRequest shared = ReadShared(fields, info, kRerankNames);
  EmbeddingCall call{.model = shared.model};
  std::optional<std::string> query = fields.String("query");
  if (!query.has_value()) fields.Missing("query");
  AddRequest(shared, std::move(query).value_or(""), "query", call.requests);
  const bool shows = fields.Boolean("return_documents").value_or(true);
  RerankShape shape;
  const Json* documents = fields.Array("documents", kEmbeddingInputsMax - 1);
  if (documents == nullptr || documents->empty()) fields.Missing("documents");
  for (size_t i = 0; fields.ok() && i < documents->size(); ++i) {
    const std::string param = Indexed("documents", i);
    std::optional<std::string> text = ReadDocument((*documents)[i], param, fields);
    if (!text.has_value()) break;
    if (shows) shape.documents.push_back(*text);
    AddRequest(shared, *std::move(text), param, call.requests);
  }
  const int64_t top_n = fields.Integer("top_n").value_or(0);
  if (top_n < 0) {
    fields.Fail("top_n", "invalid_value",
                absl::StrCat("top_n must be 1 or more, or 0 for all; got ", top_n));
  }
  RETURN_IF_ERROR(fields.Finish());
  RETURN_IF_ERROR(CheckEmbeddings(call.requests, info));
  const size_t all = call.requests.size() - 1;
  shape.results_max = top_n == 0 ? all : std::min(all, static_cast<size_t>(top_n));
  call.shape = std::move(shape);
  return call;
}

const char* IdPrefix(const EmbeddingShape& shape) {
  if (std::holds_alternative<ScoreShape>(shape)) return "score-";
  return std::holds_alternative<RerankShape>(shape) ? "rerank-" : "embd-";
}

EmbeddingBody::EmbeddingBody(EmbeddingHead head, EmbeddingShape shape, size_t num_texts)
    : head_(std::move(head)), shape_(std::move(shape)), embeddings_(num_texts) {}

void EmbeddingBody::Add(int32_t prompt, GenerationEvent&& event) {
  auto* const info = std::get_if<PromptInfo>(&event);
  if (info == nullptr) return;
  prompt_tokens_ += info->prompt_tokens;
  cached_tokens_ += info->cached_tokens;
  embeddings_[static_cast<size_t>(prompt)] = std::move(info->embedding);
}

std::string EmbeddingBody::Finish() {
  return std::visit([this](const auto& shape) { return Finish(shape); }, shape_);
}

Json EmbeddingBody::Usage() const {
  Json json = Json::object();
  json["prompt_tokens"] = prompt_tokens_;
  json["total_tokens"] = prompt_tokens_;
  json["prompt_tokens_details"] = {{"cached_tokens", cached_tokens_}};
  return json;
}

std::string EmbeddingBody::Finish(const EmbeddingsShape& shape) const {
  std::string json = R"({"object":"list","data":[)";
  for (size_t i = 0; i < embeddings_.size(); ++i) {
    absl::StrAppend(&json, i > 0 ? "," : "", R"({"object":"embedding","index":)", i,
                    R"(,"embedding":)");
    if (shape.base64) {
      AppendBase64(embeddings_[i], json);
    } else {
      AppendNumbers(embeddings_[i], json);
    }
    json += '}';
  }
  absl::StrAppend(&json, R"(],"model":)", DumpJson(Json(head_.model)), R"(,"usage":)",
                  DumpJson(Usage()), "}");
  return json;
}

std::string EmbeddingBody::Finish(const ScoreShape& shape) const {
  Json data = Json::array();
  for (size_t i = shape.num_queries; i < embeddings_.size(); ++i) {
    const size_t index = i - shape.num_queries;
    const std::vector<float>& query = embeddings_[shape.num_queries > 1 ? index : 0];
    data.push_back(
        {{"index", index}, {"object", "score"}, {"score", CosineOf(query, embeddings_[i])}});
  }
  Json json = Json::object();
  json["id"] = head_.id;
  json["object"] = "list";
  json["created"] = head_.created_unix;
  json["model"] = head_.model;
  json["data"] = std::move(data);
  json["usage"] = Usage();
  return DumpJson(json);
}

std::string EmbeddingBody::Finish(const RerankShape& shape) const {
  std::vector<std::pair<float, size_t>> ranked;  // score and document
  for (size_t i = 1; i < embeddings_.size(); ++i) {
    ranked.emplace_back(CosineOf(embeddings_.front(), embeddings_[i]), i - 1);
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  ranked.resize(std::min(ranked.size(), shape.results_max));
  Json results = Json::array();
  for (const auto& [score, document] : ranked) {
    Json& result = results.emplace_back(Json::object());
    result["index"] = document;
    if (!shape.documents.empty()) result["document"] = {{"text", shape.documents[document]}};
    result["relevance_score"] = score;
  }
  Json json = Json::object();
  json["id"] = head_.id;
  json["model"] = head_.model;
  json["results"] = std::move(results);
  json["usage"] = Usage();
  return DumpJson(json);
}

}  // namespace holdfast
