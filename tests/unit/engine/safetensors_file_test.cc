#include "engine/safetensors_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "tests/unit/engine/gguf_writer.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Parsed {
  std::vector<std::byte> bytes;
  absl::StatusOr<SafetensorsFile> file;
  explicit Parsed(absl::string_view text)
      : bytes(ToBytes(text)), file(SafetensorsFile::Parse(bytes, "test.safetensors")) {}
  std::string Message() const { return std::string(file.status().message()); }
};

std::string Bytes(absl::string_view json, size_t data_bytes) {
  std::string bytes;
  AppendText(bytes, json);
  return bytes + std::string(data_bytes, 'd');
}

constexpr char kTwoTensors[] =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},)"
    R"("a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})";

TEST(SafetensorsFileTest, ReadsTensorsInTheOrderOfTheirData) {
  const Parsed parsed(Bytes(kTwoTensors, 22));
  ASSERT_TRUE(parsed.file.ok()) << parsed.file.status();
  ASSERT_EQ(parsed.file->tensors.size(), 2u);
  const SafetensorsTensor& a = parsed.file->tensors[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.type, TensorType::kF32);
  EXPECT_THAT(a.shape, ElementsAre(2, 2));
  EXPECT_EQ(a.data.size(), 16u);
  EXPECT_EQ(parsed.file->tensors[1].type, TensorType::kBf16);
}

TEST(SafetensorsFileTest, KeepsTensorsOfOtherTypesWithoutOne) {
  const Parsed parsed(Bytes(R"({"n":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                            R"("e":{"dtype":"F16","shape":[0,4],"data_offsets":[8,8]}})",
                            8));
  ASSERT_TRUE(parsed.file.ok()) << parsed.file.status();
  EXPECT_EQ(parsed.file->tensors[0].type, std::nullopt);
  EXPECT_EQ(parsed.file->tensors[1].data.size(), 0u);
}

TEST(SafetensorsFileTest, RefusesEveryTruncation) {
  const std::string whole = Bytes(kTwoTensors, 22);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(Parsed(absl::string_view(whole).substr(0, size)).file.ok()) << size;
  }
}

TEST(SafetensorsFileTest, SurvivesFlippedBytes) {
  const std::string whole = Bytes(kTwoTensors, 22);
  for (uint32_t seed = 0; seed < 4000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::string mutated = whole;
    for (uint32_t i = 0; i <= rng() % 4; ++i) {
      const char replacements[] = "0123456789[]{}\",:-e.\\u\xff";
      mutated[rng() % mutated.size()] = rng() % 2 == 0
                                            ? static_cast<char>(rng())
                                            : replacements[rng() % (sizeof(replacements) - 1)];
    }
    const Parsed parsed(mutated);
    if (!parsed.file.ok()) continue;
    for (const SafetensorsTensor& tensor : parsed.file->tensors) {
      if (tensor.data.empty()) continue;
      EXPECT_GE(tensor.data.data(), parsed.bytes.data());
      EXPECT_LE(tensor.data.data() + tensor.data.size(), parsed.bytes.data() + parsed.bytes.size());
    }
  }
}

struct Refusal {
  const char* name;
  std::string bytes;
  const char* message;
};

std::string Entry(absl::string_view dtype, absl::string_view shape, absl::string_view offsets,
                  size_t data_bytes) {
  return Bytes(absl::StrCat(R"({"t":{"dtype":")", dtype, R"(","shape":)", shape,
                            R"(,"data_offsets":)", offsets, "}}"),
               data_bytes);
}

std::vector<Refusal> Refusals() {
  std::string absurd_length;
  AppendValue<uint64_t>(absurd_length, ~uint64_t{0});
  absurd_length += "{}";
  return {
      {"Empty", "", "header length"},
      {"AbsurdHeaderLength", absurd_length, "header length"},
      {"NoJson", Bytes("nonsense", 0), "JSON"},
      {"NoObject", Bytes("[]", 0), "object"},
      {"TooDeep", Bytes(std::string(100'000, '['), 0), "levels"},
      {"TensorTwice",
       Bytes(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
             R"("t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
             2),
       "\"t\" occurs twice"},
      {"EntryNoObject", Bytes(R"({"t":3})", 0), "tensor \"t\""},
      {"NoDtype", Bytes(R"({"t":{"shape":[1],"data_offsets":[0,1]}})", 1), "dtype"},
      {"UnknownDtype", Entry("F3", "[1]", "[0,1]", 1), "dtype"},
      {"ShapeNoArray", Entry("U8", "1", "[0,1]", 1), "shape"},
      {"NegativeDimension", Entry("U8", "[-1]", "[0,1]", 1), "shape"},
      {"FractionalDimension", Entry("U8", "[1.0]", "[0,1]", 1), "shape"},
      {"ProductOverflows", Entry("F32", "[2000000000,2000000000,2000000000]", "[0,1]", 1),
       "overflows"},
      {"TooManyDimensions", Entry("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]", 1), "shape"},
      {"OneOffset", Entry("U8", "[1]", "[0]", 1), "data_offsets"},
      {"OffsetBeyondFile", Entry("U8", "[4]", "[0,4]", 3), "data_offsets"},
      {"OffsetsReversed", Entry("U8", "[1]", "[1,0]", 1), "data_offsets"},
      {"OffsetsHuge", Entry("U8", "[1]", "[18446744073709551615,0]", 1), "data_offsets"},
      {"ShapeAndBytesDiffer", Entry("F32", "[2]", "[0,4]", 4), "wanted 8 bytes"},
      {"GapBeforeTensor", Entry("U8", "[1]", "[1,2]", 2), "no gap"},
      {"BytesLeftOver", Entry("U8", "[1]", "[0,1]", 2), "wanted 1 bytes, found 2"},
      {"Overlap",
       Bytes(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
             R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
             3),
       "no overlap"},
  };
}

class SafetensorsRefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(SafetensorsRefusalTest, NamesFileAndField) {
  const Parsed parsed(GetParam().bytes);
  ASSERT_FALSE(parsed.file.ok());
  EXPECT_THAT(parsed.Message(), HasSubstr("test.safetensors: "));
  EXPECT_THAT(parsed.Message(), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(All, SafetensorsRefusalTest, testing::ValuesIn(Refusals()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace holdfast
