// What a request's header says, read from the parsed fields: pure functions, without a connection.
//
// Thread: any.
#pragma once

#include <boost/beast/http/fields.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>
#include <string_view>

#include "server/http_status.h"

namespace holdfast {

using HttpHead = boost::beast::http::request<boost::beast::http::string_body>;

OpenAiError MalformedRequest(std::string_view what);

// Letters, digits and the marks of the usual kinds of ids: nothing that could break a header or a
// log line.
bool IsGoodRequestId(std::string_view id);

// "Bearer KEY" or, as some SDKs send it, the key alone in api-key or x-api-key.
std::string_view KeyOf(const boost::beast::http::fields& fields);

// The path of "/v1/models?x", or of "http://host/v1/models" as a proxy may send it. Empty: neither.
std::string_view PathOf(std::string_view target);
std::string_view QueryOf(std::string_view target);

// For a server that trusts whoever reaches loopback: see loopback_host.h. No Host at all, as in
// HTTP/1.0, is no browser's request.
std::optional<OpenAiError> CheckLoopbackNames(const HttpHead& message);

// What Beast's parser lets through and two readers might understand differently.
std::optional<OpenAiError> CheckFraming(const HttpHead& message);

}  // namespace holdfast
