// Whether a request was meant for this machine, as far as its header tells. A daemon without keys
// trusts whoever reaches loopback, and any web page can make its visitor's browser reach it: by a
// name of its own that it lets point to 127.0.0.1 (DNS rebinding), or by a plain cross-site
// request. The browser then says so itself, in Host or in Origin.
//
// Thread: any; pure.
#pragma once

#include <string_view>

namespace holdfast {

// The value of a Host header, with or without port: localhost, a name under .localhost (RFC 6761),
// 127.0.0.0/8, [::1], or an IPv4 loopback address mapped into IPv6.
bool IsLoopbackHost(std::string_view host);

// The value of an Origin header, SCHEME://HOST[:PORT]. "null" is no loopback: a sandboxed page of
// anywhere sends it.
bool IsLoopbackOrigin(std::string_view origin);

}  // namespace holdfast
