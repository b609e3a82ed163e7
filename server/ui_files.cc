#include "server/ui_files.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/http_status.h"

namespace holdfast {
namespace {

constexpr char kWithoutPage[] =
    "This holdfast was built without its page; ./dev build makes it with the page.\n";

// Everything from here and nothing from elsewhere; no frame around it, no form out of it.
constexpr char kPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'";

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// Whether the client takes gzip: RFC 9110, 12.5.3, of which a name, "*" and q=0 are what is met.
bool TakesGzip(std::string_view accept_encoding) {
  bool any = false;
  for (absl::string_view coding : absl::StrSplit(View(accept_encoding), ',')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(coding, absl::MaxSplits(';', 1));
    const absl::string_view name = absl::StripAsciiWhitespace(parts.first);
    absl::string_view weight = absl::StripAsciiWhitespace(parts.second);
    double q = 1;
    if (absl::ConsumePrefix(&weight, "q=") && !absl::SimpleAtod(weight, &q)) q = 0;
    if (absl::EqualsIgnoreCase(name, "gzip")) return q > 0;
    if (name == "*") any = q > 0;
  }
  return any;
}

// If-None-Match names `etag`: by weak comparison, as RFC 9110, 13.1.2, has it.
bool Names(std::string_view if_none_match, const std::string& etag) {
  for (absl::string_view one : absl::StrSplit(View(if_none_match), ',')) {
    one = absl::StripAsciiWhitespace(one);
    absl::ConsumePrefix(&one, "W/");
    if (one == "*" || one == etag) return true;
  }
  return false;
}

HttpReply TextReply(int status, const char* text) {
  return HttpReply{.status = status, .body = text, .content_type = "text/plain; charset=utf-8"};
}

}  // namespace

HttpReply UiReply(std::span<const UiFile> files, const HttpRequest& request) {
  if (files.empty()) return TextReply(404, kWithoutPage);
  const std::string_view pattern = request.route->path;
  if (!pattern.ends_with('/') && request.param.empty()) {
    // Relative, so that it holds behind a proxy that puts a path before ours.
    HttpReply reply = TextReply(308, "");
    reply.headers.emplace_back("Location", "ui/");
    return reply;
  }
  std::string_view path = request.param;
  if (path.empty()) path = "index.html";
  const auto file =
      std::find_if(files.begin(), files.end(), [&](const UiFile& f) { return f.path == path; });
  if (file == files.end()) return TextReply(404, "There is no such file; the page is at /ui/.\n");

  const bool gzip = TakesGzip(request.accept_encoding);
  const std::string etag = absl::StrCat("\"", View(file->hash), gzip ? "-gzip" : "", "\"");
  HttpReply reply{.content_type = file->content_type};
  // What lies under assets/ has its content's hash in its name.
  const bool immutable = path.starts_with("assets/");
  reply.headers = {
      {"ETag", etag},
      {"Vary", "Accept-Encoding"},
      {"Cache-Control", immutable ? "public, max-age=31536000, immutable" : "no-cache"},
      {"Content-Security-Policy", kPolicy},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Resource-Policy", "same-origin"}};
  if (Names(request.if_none_match, etag)) {
    reply.status = 304;
    return reply;
  }
  if (gzip) reply.headers.emplace_back("Content-Encoding", "gzip");
  reply.body = std::string(gzip ? file->gzip : file->plain);
  return reply;
}

}  // namespace holdfast
