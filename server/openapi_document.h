// The text of openapi.json, put into the program at build time.
#pragma once

namespace holdfast {

extern const char kOpenApiDocument[];

}  // namespace holdfast
