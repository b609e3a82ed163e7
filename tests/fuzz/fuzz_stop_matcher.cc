// Detokenizer and stop matcher: however a completion's bytes are cut into tokens, the text shown
// and the stop string found are the same, the text is whole UTF-8, and a hidden stop string is not
// in it.
//
// Input: a byte of flags, stop strings each led by a length byte, a zero, then the completion's
// bytes. How it is cut comes from a hash of the input.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/base/check.h"
#include "server/detokenizer.h"
#include "server/stop_matcher.h"

namespace holdfast {
namespace {

constexpr size_t kStopsMax = 16, kTokenBytesMax = 9;

struct Input {
  bool include_stop = false;
  std::vector<std::string> stops;
  std::string_view bytes;
};

Input Read(std::string_view data) {
  Input input;
  const auto take = [&] {
    const uint8_t byte = data.empty() ? 0 : static_cast<uint8_t>(data.front());
    data.remove_prefix(data.empty() ? 0 : 1);
    return byte;
  };
  input.include_stop = take() & 1;
  while (input.stops.size() < kStopsMax) {
    const size_t size = take();
    if (size == 0) break;
    input.stops.emplace_back(data.substr(0, size));
    data.remove_prefix(input.stops.back().size());
  }
  input.bytes = data;
  return input;
}

// Tokens that are pieces of the completion, in order.
class Pieces final : public Tokenizer {
 public:
  Pieces(std::string_view bytes, uint64_t cut) {
    while (!bytes.empty()) {
      cut = cut * 6364136223846793005u + 1442695040888963407u;
      const size_t size = cut == 0 ? bytes.size() : 1 + (cut >> 33) % kTokenBytesMax;
      pieces_.push_back(bytes.substr(0, size));
      bytes.remove_prefix(pieces_.back().size());
    }
  }
  explicit Pieces(std::string_view whole) : pieces_({whole}) {}

  absl::Status Encode(std::string_view, SpecialTokens, bool, std::vector<int32_t>&) const override {
    return absl::UnimplementedError("only lists pieces");
  }
  std::string_view TokenBytes(int32_t id) const override {
    return pieces_[static_cast<size_t>(id)];
  }
  bool IsSpecial(int32_t) const override { return false; }
  int32_t vocab_size() const override { return static_cast<int32_t>(pieces_.size()); }

 private:
  std::vector<std::string_view> pieces_;
};

struct Shown {
  std::string text, stop;
  bool operator==(const Shown&) const = default;
};

Shown Show(const Input& input, const Pieces& pieces) {
  Detokenizer detokenizer(pieces, SpecialText::kShow);
  StopMatcher matcher(input.stops, input.include_stop);
  Shown shown;
  bool ended = false;
  const auto pass = [&](const std::string& text) {
    const auto match = matcher.Append(text, shown.text);
    CHECK(!(ended && match.has_value()));
    if (!match.has_value()) return;
    ended = true;
    shown.stop = match->stop;
  };
  for (int32_t id = 0; id < pieces.vocab_size(); ++id) {
    std::string text;
    detokenizer.Append(id, text);
    pass(text);
  }
  std::string text;
  detokenizer.Finish(text);
  pass(text);
  matcher.Finish(shown.text);
  return shown;
}

bool IsUtf8(const std::string& text) {
  const Pieces whole{std::string_view(text)};
  Detokenizer detokenizer(whole, SpecialText::kShow);
  std::string again;
  detokenizer.Append(0, again);
  detokenizer.Finish(again);
  return again == text;
}

void Run(std::string_view data) {
  const Input input = Read(data);
  uint64_t hash = 14695981039346656037u;
  for (const char c : data) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;

  const Shown whole = Show(input, Pieces(input.bytes));
  CHECK(whole == Show(input, Pieces(input.bytes, hash)));
  CHECK(whole == Show(input, Pieces(input.bytes, ~hash)));
  bool stops_are_text = true;
  for (const std::string& stop : input.stops) stops_are_text = stops_are_text && IsUtf8(stop);
  if (stops_are_text) CHECK(IsUtf8(whole.text));
  if (!input.include_stop) {
    for (const std::string& stop : input.stops) {
      CHECK(stop.empty() || whole.text.find(stop) == std::string::npos);
    }
  }
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  holdfast::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
