// The page at /ui: what ui/ was built to, inside the program, each file as it is and gzip'd, and
// the answers that carry it. The page asks nothing of any other origin, and its policy lets it not.
//
// Thread: any; pure.
#pragma once

#include <span>
#include <string_view>

#include "server/http_exchange.h"

namespace holdfast {

struct UiFile {
  std::string_view path;  // below /ui/; "index.html" is the page itself
  const char* content_type;
  std::string_view hash;  // of the content, in hexadecimal
  std::string_view plain, gzip;
};

// Of this program; made by ui/pack.py. Empty: it was built without the page.
std::span<const UiFile> BuiltInUi();

// Answers a GET or HEAD of /ui, /ui/ or /ui/{id}. 404 for a file that is not there, and for the
// page where `files` is empty, with a line that says how to have it.
HttpReply UiReply(std::span<const UiFile> files, const HttpRequest& request);

}  // namespace holdfast
