// Who may share KV with whom, as the store sees it: an opaque name that is part of every block key.
// Blocks of two scopes never answer for each other.
#pragma once

#include <array>
#include <cstdint>

namespace holdfast {

// SHA-256 over tenant or sharing group, caller's salt, model digest, adapter and KV layout. Made by
// the server from the authenticated tenant.
using ReuseScope = std::array<uint8_t, 32>;

}  // namespace holdfast
