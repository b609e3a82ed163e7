#include "server/detokenizer.h"

#include <algorithm>

namespace holdfast {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, SpecialText special, FirstSpace first_space)
    : tokenizer_(tokenizer),
      special_(special),
      drop_space_(first_space == FirstSpace::kDrop && tokenizer.adds_space_prefix()) {}

bool Detokenizer::Hides(TokenId token) const {
  return special_ == SpecialText::kHide && tokenizer_.IsSpecial(token) &&
         std::find(shown_.begin(), shown_.end(), token) == shown_.end();
}

void Detokenizer::Append(TokenId token, std::string& text) {
  if (Hides(token)) return;
  for (const char c : tokenizer_.TokenBytes(token)) {
    const bool dropped = drop_space_ && c == ' ';
    drop_space_ = false;
    if (!dropped) AppendByte(static_cast<uint8_t>(c), text);
  }
}

void Detokenizer::Finish(std::string& text) {
  if (missing_ > 0) Replace(text);
}

// Well-formed sequences: Unicode 15, table 3-7. Only the second byte has a range of its own.
void Detokenizer::AppendByte(uint8_t byte, std::string& text) {
  if (missing_ > 0) {
    if (byte >= next_min_ && byte <= next_max_) {
      part_.push_back(static_cast<char>(byte));
      next_min_ = 0x80;
      next_max_ = 0xBF;
      if (--missing_ == 0) {
        text += part_;
        part_.clear();
      }
      return;
    }
    Replace(text);
  }
  if (byte < 0x80) {
    text.push_back(static_cast<char>(byte));
    return;
  }
  next_min_ = 0x80;
  next_max_ = 0xBF;
  if (byte >= 0xC2 && byte <= 0xDF) {
    missing_ = 1;
  } else if (byte >= 0xE0 && byte <= 0xEF) {
    missing_ = 2;
    if (byte == 0xE0) next_min_ = 0xA0;
    if (byte == 0xED) next_max_ = 0x9F;  // no surrogates
  } else if (byte >= 0xF0 && byte <= 0xF4) {
    missing_ = 3;
    if (byte == 0xF0) next_min_ = 0x90;
    if (byte == 0xF4) next_max_ = 0x8F;  // up to U+10FFFF
  } else {
    Replace(text);
    return;
  }
  part_.push_back(static_cast<char>(byte));
}

void Detokenizer::Replace(std::string& text) {
  text += "\xEF\xBF\xBD";
  part_.clear();
  missing_ = 0;
}

}  // namespace holdfast
