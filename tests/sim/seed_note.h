// Names the seed of a walk wherever it fails: in every message of GoogleTest while the note lives,
// and on stderr if a CHECK stops the process.
//
// Thread: one at a time; the newest note is the one that is printed.
#pragma once

#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include "gtest/gtest.h"

namespace holdfast {

class SeedNote final {
 public:
  SeedNote(const char* walk, uint64_t seed)
      : trace_("", 0, std::string(walk) + " with seed " + std::to_string(seed)) {
    std::snprintf(Text().data(), Text().size(), "%s was at seed %llu\n", walk,
                  static_cast<unsigned long long>(seed));
    std::signal(SIGABRT, &Print);
  }
  ~SeedNote() { std::signal(SIGABRT, SIG_DFL); }
  SeedNote(const SeedNote&) = delete;

 private:
  static std::array<char, 128>& Text() {
    static std::array<char, 128> text;
    return text;
  }
  // Abort goes on when it returns.
  static void Print(int) {
    if (write(STDERR_FILENO, Text().data(), std::strlen(Text().data())) < 0) return;
  }

  const testing::ScopedTrace trace_;
};

}  // namespace holdfast
