// Reads one call of a tool whose arguments are not written as one JSON object, and writes them as
// one, piece by piece.
//
//   TaggedCallReader  <function=f><parameter=city>\nParis\n</parameter></function>
//   PythonCallReader  f(city="Paris", days=[1, 2], sure=True)
//
// A parameter between tags is text where its schema says so (bare_text.h), and one line's end on
// each side of it is not its own; another is JSON if it is any, else text. A Python literal is
// written as JSON: strings of either quote with their escapes, True, False, None, numbers, lists
// and dicts; what JSON has for these is taken, too. Brackets are counted, not checked.
//
// What comes out does not depend on how the text is cut. Thread: one. Bound: what waits, by the
// answer's length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "server/bare_text.h"
#include "server/tool_call_format.h"

namespace holdfast {

class CallReader {
 public:
  enum class Step : uint8_t {
    kMore,
    kName,  // is known now
    kEnd,   // of the call, at this character
    kBroken,
  };

  virtual ~CallReader() = default;
  // Appends to `arguments`, not before the name is known.
  virtual Step Read(char c, std::string& arguments) = 0;

  const std::string& name() const { return name_; }
  // After kBroken: the characters from where on it was none.
  const std::string& unread() const { return buffer_; }

 protected:
  // The next argument's key.
  void WriteKey(std::string_view key, std::string& arguments);
  void WriteEnd(std::string& arguments) const { arguments += has_arguments_ ? "}" : "{}"; }

  std::string name_;
  std::string buffer_;  // of a mark, a name, a key or a word

 private:
  bool has_arguments_ = false;
};

class TaggedCallReader final : public CallReader {
 public:
  // `texts`: of the tools by their names; null: of none.
  explicit TaggedCallReader(std::shared_ptr<const BareTextsOfTools> texts)
      : texts_(std::move(texts)) {}

  Step Read(char c, std::string& arguments) override;

 private:
  enum class State : uint8_t { kFunction, kName, kBetween, kKey, kValue };
  enum class Kind : uint8_t { kText, kTextOrNull, kJson };

  Step ReadBetween(char c, std::string& arguments);
  const BareText* Bare(const std::string& parameter) const;  // null: it is written as JSON
  void BeginValue(std::string& arguments);
  void ReadValue(char c, std::string& arguments);
  void AddToValue(char c, std::string& arguments);
  void EndValue(std::string& arguments);

  const std::shared_ptr<const BareTextsOfTools> texts_;  // shared with whoever made this
  State state_ = State::kFunction;
  Kind kind_ = Kind::kText;
  bool at_begin_ = false;  // of a value
  bool quoted_ = false;    // its quote is written
  std::string value_;      // that is not written yet
};

class PythonCallReader final : public CallReader {
 public:
  Step Read(char c, std::string& arguments) override;

 private:
  enum class State : uint8_t { kName, kBeforeKey, kKey, kValue, kString, kEscape, kAfterValue };

  Step ReadKey(char c, std::string& arguments);
  Step ReadValue(char c, std::string& arguments);
  Step ReadEnd(char c, std::string& arguments);
  void ReadString(char c, std::string& arguments);
  void ReadEscape(char c, std::string& arguments);
  bool WriteWord(std::string& arguments);  // what has been read of one; false: it is no literal
  Step Broken(char c);

  State state_ = State::kName;
  int64_t depth_ = 0;  // of brackets within a value
  char quote_ = 0;
  std::string escape_;  // behind its backslash
};

// Of syntaxes that need one; else null.
std::unique_ptr<CallReader> MakeCallReader(const ToolCallSyntax& syntax,
                                           std::shared_ptr<const BareTextsOfTools> texts);

}  // namespace holdfast
