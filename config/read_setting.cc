#include "config/read_setting.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "config/base/check.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/endpoint.h"
#include "config/remote_endpoint.h"

namespace holdfast {
namespace {

constexpr size_t kTextBytesMax = 4096;
constexpr size_t kNameBytesMax = 64;
constexpr std::string_view kHashPrefix = "sha256:";

absl::Status Wanted(std::string_view what, std::string_view found) {
  return absl::InvalidArgumentError(Concat("wanted ", what, ", found `", found.substr(0, 80), "`"));
}

bool HasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); });
}

absl::Status CheckText(std::string_view text) {
  if (text.empty()) return Wanted("some text", text);
  if (text.size() > kTextBytesMax) {
    return absl::InvalidArgumentError(
        Concat("wanted at most ", kTextBytesMax, " bytes, found ", text.size()));
  }
  if (HasControlCharacter(text)) {
    return absl::InvalidArgumentError("wanted text without control characters");
  }
  return absl::OkStatus();
}

absl::Status CheckName(std::string_view text) {
  const bool fits = !text.empty() && text.size() <= kNameBytesMax &&
                    absl::ascii_isalnum(static_cast<unsigned char>(text.front())) &&
                    std::all_of(text.begin(), text.end(), [](char c) {
                      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
                             c == '_' || c == '-';
                    });
  if (fits) return absl::OkStatus();
  return Wanted(Concat("1 to ", kNameBytesMax,
                       " letters, digits, `.`, `_` or `-`, the first a letter or digit"),
                text);
}

absl::StatusOr<int64_t> ReadInteger(const Setting& setting, std::string_view text) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(AbslView(text), &value) || value < setting.least || value > setting.most) {
    return Wanted(Concat("a whole number from ", setting.least, " to ", setting.most), text);
  }
  return value;
}

absl::StatusOr<double> ReadNumber(const Setting& setting, std::string_view text) {
  double value = 0;
  const auto least = static_cast<double>(setting.least), most = static_cast<double>(setting.most);
  const bool read = absl::SimpleAtod(AbslView(text), &value);
  // Written so that NaN is out of every range.
  const bool in_range = value >= least && value <= most && !(setting.above_least && value == least);
  if (read && in_range) return value;
  return Wanted(Concat("a number ", setting.above_least ? "above " : "from ", setting.least, " to ",
                       setting.most),
                text);
}

absl::StatusOr<int64_t> ReadBytes(const Setting& setting, std::string_view text) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},      {"B", 1},      {"KB", 1e3},      {"MB", 1e6},      {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1 << 30}, {"TiB", 1099511627776.0},
  };
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view unit =
      text.substr(std::min(text.find_first_not_of(" ", digits), text.size()));
  double number = 0;
  const auto* found = std::find_if(std::begin(kUnits), std::end(kUnits),
                                   [&](const auto& known) { return known.first == unit; });
  // A part of a byte is no size: `0.5` was meant as a share, or has lost its unit.
  const bool has_point = text.substr(0, digits).find('.') != std::string_view::npos;
  if (found != std::end(kUnits) && (found->second > 1 || !has_point) &&
      absl::SimpleAtod(AbslView(text.substr(0, digits)), &number)) {
    const double bytes = std::floor(number * found->second);
    if (bytes >= static_cast<double>(setting.least) && bytes <= static_cast<double>(setting.most)) {
      return static_cast<int64_t>(bytes);
    }
  }
  return Wanted(Concat("a size such as 4GiB, from ", setting.least, " to ", setting.most, " bytes"),
                text);
}

absl::StatusOr<TierAmount> ReadAmount(const Setting& setting, std::string_view text) {
  if (text.ends_with('%')) {
    double percent = 0;
    if (absl::SimpleAtod(AbslView(text.substr(0, text.size() - 1)), &percent) && percent >= 0 &&
        percent <= 100) {
      return TierAmount{.share = percent / 100};
    }
  } else {
    Setting bytes = setting;
    bytes.most = int64_t{1} << 50;
    if (const auto read = ReadBytes(bytes, text); read.ok()) return TierAmount{.bytes = *read};
  }
  return Wanted("a share from 0% to 100%, or a size such as 4GiB", text);
}

absl::StatusOr<absl::Duration> ReadDuration(const Setting& setting, std::string_view text) {
  absl::Duration value;
  if (!absl::ParseDuration(AbslView(text), &value) || value < absl::Milliseconds(setting.least) ||
      value > absl::Milliseconds(setting.most)) {
    return Wanted(Concat("a time with its unit, such as 30s or 10m, from ",
                         absl::FormatDuration(absl::Milliseconds(setting.least)), " to ",
                         absl::FormatDuration(absl::Milliseconds(setting.most))),
                  text);
  }
  return value;
}

absl::StatusOr<bool> ReadBool(std::string_view text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return Wanted("true or false", text);
}

absl::StatusOr<KeyHash> ReadKeyHash(std::string_view text) {
  std::string_view digits = text;
  const bool named = digits.starts_with(kHashPrefix);
  if (named) digits.remove_prefix(kHashPrefix.size());
  const bool is_hash =
      named && digits.size() == 64 && std::all_of(digits.begin(), digits.end(), [](char c) {
        return absl::ascii_isxdigit(static_cast<unsigned char>(c));
      });
  // What stands there may be the key itself by mistake: it is not repeated.
  if (!is_hash) {
    return absl::InvalidArgumentError(
        "wanted sha256: and 64 hex digits, as `holdfast keys new` prints them, and found "
        "something else; never write the key itself");
  }
  return KeyHash{.sha256_hex = absl::AsciiStrToLower(AbslView(digits))};
}

// The text of a text-like setting, checked.
absl::Status CheckTextKind(const Setting& setting, std::string_view text) {
  if (setting.may_be_empty && text.empty()) return absl::OkStatus();
  switch (setting.kind) {
    case SettingKind::kName:
      return CheckName(text);
    case SettingKind::kEndpoint:
      return ParseEndpoint(text).status();
    case SettingKind::kServer:
      return ParseRemoteEndpoint(text).status();
    case SettingKind::kChoice:
      if (std::count(setting.choices.begin(), setting.choices.end(), text) == 0) {
        return Wanted(ConcatList(setting.choices, " | "), text);
      }
      return absl::OkStatus();
    default:
      return CheckText(text);
  }
}

}  // namespace

absl::Status ReadSetting(const Setting& setting, std::string_view text, const SettingSlot& slot) {
  switch (setting.kind) {
    case SettingKind::kBool: {
      ASSIGN_OR_RETURN(*std::get<bool*>(slot), ReadBool(text));
      return absl::OkStatus();
    }
    case SettingKind::kInteger: {
      ASSIGN_OR_RETURN(const int64_t value, ReadInteger(setting, text));
      if (auto* const* plain = std::get_if<int32_t*>(&slot)) {
        **plain = static_cast<int32_t>(value);
      } else if (auto* const* wide = std::get_if<int64_t*>(&slot)) {
        **wide = value;
      } else {
        *std::get<std::optional<int32_t>*>(slot) = static_cast<int32_t>(value);
      }
      return absl::OkStatus();
    }
    case SettingKind::kNumber: {
      ASSIGN_OR_RETURN(*std::get<double*>(slot), ReadNumber(setting, text));
      return absl::OkStatus();
    }
    case SettingKind::kBytes: {
      ASSIGN_OR_RETURN(*std::get<std::optional<int64_t>*>(slot), ReadBytes(setting, text));
      return absl::OkStatus();
    }
    case SettingKind::kAmount: {
      ASSIGN_OR_RETURN(*std::get<std::optional<TierAmount>*>(slot), ReadAmount(setting, text));
      return absl::OkStatus();
    }
    case SettingKind::kDuration: {
      ASSIGN_OR_RETURN(*std::get<absl::Duration*>(slot), ReadDuration(setting, text));
      return absl::OkStatus();
    }
    case SettingKind::kTexts: {
      RETURN_IF_ERROR(CheckText(text));
      std::get<std::vector<std::string>*>(slot)->emplace_back(text);
      return absl::OkStatus();
    }
    case SettingKind::kKeyHashes: {
      ASSIGN_OR_RETURN(KeyHash hash, ReadKeyHash(text));
      std::get<std::vector<KeyHash>*>(slot)->push_back(std::move(hash));
      return absl::OkStatus();
    }
    case SettingKind::kText:
    case SettingKind::kName:
    case SettingKind::kEndpoint:
    case SettingKind::kServer:
    case SettingKind::kChoice: {
      RETURN_IF_ERROR(CheckTextKind(setting, text));
      if (auto* const* plain = std::get_if<std::string*>(&slot)) {
        **plain = std::string(text);
      } else {
        *std::get<std::optional<std::string>*>(slot) = std::string(text);
      }
      return absl::OkStatus();
    }
  }
  CHECK(false);
  return absl::InternalError("unreachable");
}

}  // namespace holdfast
