// Token ids to text, one token at a time, in whole characters.
//
//   token ─► its bytes ─► [part of a character, at most 3 bytes] ─► text
//
// A token may end inside a character; the part waits for the token that completes it, so that what
// comes out is valid UTF-8 however it is cut. Bytes that can begin or continue no character become
// U+FFFD, one for each longest part of a character, as Python's errors="replace" does (Unicode 15,
// section 3.9, "substitution of maximal subparts").
//
// Thread: one.    Bound: three bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/ids.h"
#include "text/text.h"

namespace holdfast {

enum class SpecialText : uint8_t { kHide, kShow };  // control tokens, such as <|im_end|>

// A SentencePiece tokenizer puts a space before a text. kDrop is for showing a whole text, kKeep
// for what goes on after a prompt; with other tokenizers both are the same.
enum class FirstSpace : uint8_t { kKeep, kDrop };

class Detokenizer final {
 public:
  // `tokenizer` must outlive this.
  Detokenizer(const Tokenizer& tokenizer, SpecialText special,
              FirstSpace first_space = FirstSpace::kKeep);
  // Control tokens that are shown whatever `special` says. Before the first Append.
  void ShowAlso(std::vector<TokenId> tokens) { shown_ = std::move(tokens); }

  // Whether `token` is a control token that stands for nothing here.
  bool Hides(TokenId token) const;

  // Appends to `text` the characters that `token` completes. Unknown ids stand for nothing.
  void Append(TokenId token, std::string& text);
  // The end: a part of a character that still waits becomes U+FFFD.
  void Finish(std::string& text);

 private:
  void AppendByte(uint8_t byte, std::string& text);
  void Replace(std::string& text);

  const Tokenizer& tokenizer_;
  const SpecialText special_;
  std::vector<TokenId> shown_;           // of the control tokens
  bool drop_space_;                      // the next byte begins the text and may be a space to drop
  std::string part_;                     // of a character, valid so far
  int missing_ = 0;                      // bytes that complete it
  uint8_t next_min_ = 0, next_max_ = 0;  // range of its next byte
};

}  // namespace holdfast
