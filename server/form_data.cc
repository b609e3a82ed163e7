#include "server/form_data.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"

namespace holdfast {
namespace {

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(Concat("the form is malformed: ", what));
}

// The value of `name` among "; name=value; name=\"value\"", with \" and \\ unescaped.
std::optional<std::string> Parameter(std::string_view header, std::string_view name) {
  size_t at = header.find(';');
  while (at < header.size()) {
    ++at;  // the semicolon
    at = std::min(header.find_first_not_of(" \t", at), header.size());
    const size_t equals = std::min(header.find_first_of("=;", at), header.size());
    const std::string_view key = header.substr(at, equals - at);
    std::string value;
    at = equals;
    if (at < header.size() && header[at] == '=') {
      ++at;
      if (at < header.size() && header[at] == '"') {
        for (++at; at < header.size() && header[at] != '"'; ++at) {
          const bool escaped = header[at] == '\\' && at + 1 < header.size() &&
                               (header[at + 1] == '"' || header[at + 1] == '\\');
          if (escaped) ++at;
          value += header[at];
        }
      } else {
        const size_t end = std::min(header.find(';', at), header.size());
        value =
            std::string(StdView(absl::StripAsciiWhitespace(AbslView(header.substr(at, end - at)))));
        at = end;
      }
    }
    at = header.find(';', at);
    if (absl::EqualsIgnoreCase(AbslView(key), AbslView(name))) return value;
  }
  return std::nullopt;
}

// Browsers and SDKs write a quotation mark and line ends of a name so (the HTML
// standard, 4.10.21.8).
std::string Unescaped(const std::string& name) {
  return absl::StrReplaceAll(name, {{"%22", "\""}, {"%0D", "\r"}, {"%0A", "\n"}});
}

absl::StatusOr<FormPart> ReadHead(std::string_view head) {
  FormPart part;
  bool found = false;
  while (!head.empty()) {
    const size_t end = std::min(head.find("\r\n"), head.size());
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(std::min(end + 2, head.size()));
    constexpr std::string_view kDisposition = "content-disposition:";
    if (!absl::StartsWithIgnoreCase(AbslView(line), AbslView(kDisposition))) continue;
    const auto name = Parameter(line, "name");
    if (!name.has_value()) return Malformed("a part without a name");
    part.name = Unescaped(*name);
    part.filename = Unescaped(Parameter(line, "filename").value_or(""));
    found = true;
  }
  if (!found) return Malformed("a part without Content-Disposition");
  return part;
}

}  // namespace

absl::StatusOr<std::vector<FormPart>> ParseFormData(std::string_view content_type,
                                                    std::string_view body) {
  if (!absl::StartsWithIgnoreCase(AbslView(content_type), "multipart/form-data")) {
    return absl::InvalidArgumentError(
        Concat("the request needs Content-Type multipart/form-data; found ",
               content_type.empty() ? "none" : content_type.substr(0, 128)));
  }
  const auto boundary = Parameter(content_type, "boundary");
  if (!boundary.has_value() || boundary->empty() || boundary->size() > 70) {
    return Malformed("Content-Type names no boundary of 1 to 70 characters");
  }
  const std::string mark = Concat("\r\n--", *boundary);
  // The first mark may be at the very start, without its line end.
  size_t at = 0;
  if (body.starts_with(std::string_view(mark).substr(2))) {
    at = mark.size() - 2;
  } else {
    at = body.find(mark);
    if (at == body.npos) return Malformed("its boundary does not occur");
    at += mark.size();
  }
  std::vector<FormPart> parts;
  while (body.substr(at, 2) != "--") {
    const size_t line_end = body.find("\r\n", at);
    if (line_end == body.npos ||
        body.substr(at, line_end - at).find_first_not_of(" \t") != body.npos) {
      return Malformed("a boundary is not followed by the end of its line");
    }
    if (parts.size() == kFormPartsMax)
      return Malformed(Concat("more than ", kFormPartsMax, " parts"));
    const size_t head = line_end + 2;
    const size_t head_end = body.find("\r\n\r\n", line_end);
    if (head_end == body.npos || head_end - line_end > kFormPartHeadBytesMax) {
      return Malformed(Concat("part ", parts.size() + 1, " has no end of its header"));
    }
    ASSIGN_OR_RETURN(FormPart part, ReadHead(head <= head_end ? body.substr(head, head_end - head)
                                                              : std::string_view()));
    const size_t begin = head_end + 4;
    const size_t end = body.find(mark, begin);
    if (end == body.npos) return Malformed(Concat("part ", parts.size() + 1, " is cut off"));
    part.content = body.substr(begin, end - begin);
    parts.push_back(std::move(part));
    at = end + mark.size();
  }
  return parts;
}

}  // namespace holdfast
