#include "engine/gguf_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/engine/gguf_writer.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Exactly as many bytes on the heap as the file has, so that the address sanitizer sees one too
// far.
struct Parsed {
  std::vector<std::byte> bytes;
  absl::StatusOr<GgufFile> file;
  explicit Parsed(absl::string_view text)
      : bytes(ToBytes(text)), file(GgufFile::Parse(bytes, "test.gguf")) {}
  std::string Message() const { return std::string(file.status().message()); }
};

GgufWriter SmallFile() {
  GgufWriter writer;
  writer.Text("general.architecture", "llama")
      .Uint32("llama.block_count", 2)
      .Float("llama.rope.freq_base", 5000.0f)
      .Texts("tokenizer.ggml.tokens", {"a", "", "ccc"})
      .Integers("tokenizer.ggml.token_type", {1, 3, 1})
      .Raw("flag", 7, std::string(1, '\1'));
  writer.Tensor("w", {32, 2}, 3, std::string(40, 'w'));  // Q4_1
  writer.Tensor("v", {4}, 0, std::string(16, 'v'));
  return writer;
}

TEST(GgufFileTest, ReadsMetadataAndTensors) {
  const Parsed parsed(SmallFile().Bytes());
  ASSERT_TRUE(parsed.file.ok()) << parsed.file.status();
  const GgufFile& file = *parsed.file;
  EXPECT_EQ(**file.Text("general.architecture"), "llama");
  EXPECT_EQ(**file.Integer("llama.block_count"), 2);
  EXPECT_EQ(**file.Number("llama.block_count"), 2.0);
  EXPECT_EQ(**file.Number("llama.rope.freq_base"), 5000.0);
  EXPECT_EQ(**file.Flag("flag"), true);
  EXPECT_EQ(*file.Integer("absent"), std::nullopt);
  EXPECT_THAT(*file.Strings("tokenizer.ggml.tokens"), ElementsAre("a", "", "ccc"));
  EXPECT_THAT(*file.Integers("tokenizer.ggml.token_type"), ElementsAre(1, 3, 1));
  EXPECT_TRUE(file.Strings("absent")->empty());
  const GgufTensor* tensor = file.FindTensor("w");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->type, TensorType::kQ4_1);
  EXPECT_EQ(tensor->dims[0], 32);
  EXPECT_EQ(tensor->dims[1], 2);
  EXPECT_EQ(tensor->data.size(), 40u);
  EXPECT_EQ(tensor->data[0], std::byte{'w'});
  EXPECT_EQ(file.FindTensor("v")->data[15], std::byte{'v'});
  EXPECT_EQ(file.FindTensor("absent"), nullptr);
}

TEST(GgufFileTest, AsksForTheTypeThatAKeyHas) {
  const Parsed parsed(SmallFile().Bytes());
  ASSERT_TRUE(parsed.file.ok());
  EXPECT_FALSE(parsed.file->Integer("general.architecture").ok());
  EXPECT_FALSE(parsed.file->Integer("llama.rope.freq_base").ok());
  EXPECT_FALSE(parsed.file->Text("llama.block_count").ok());
  EXPECT_FALSE(parsed.file->Flag("llama.block_count").ok());
  EXPECT_FALSE(parsed.file->Strings("tokenizer.ggml.token_type").ok());
  EXPECT_FALSE(parsed.file->Integers("tokenizer.ggml.tokens").ok());
  EXPECT_FALSE(parsed.file->Floats("tokenizer.ggml.token_type").ok());
  EXPECT_FALSE(parsed.file->Floats("flag").ok());
}

TEST(GgufFileTest, RefusesEveryTruncation) {
  const std::string whole = SmallFile().Bytes();
  // The padding after the last tensor is not part of it.
  const size_t last_needed = whole.size() - 16;
  for (size_t size = 0; size < last_needed; ++size) {
    const Parsed parsed(absl::string_view(whole).substr(0, size));
    EXPECT_FALSE(parsed.file.ok()) << "cut to " << size << " of " << whole.size();
    EXPECT_THAT(parsed.Message(), HasSubstr("test.gguf")) << size;
  }
}

TEST(GgufFileTest, SurvivesFlippedBytes) {
  const std::string whole = SmallFile().Bytes();
  int refused = 0;
  for (uint32_t seed = 0; seed < 4000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::string mutated = whole;
    for (uint32_t i = 0; i <= rng() % 4; ++i) {
      const uint32_t how = rng() % 3;
      char& byte = mutated[rng() % mutated.size()];
      byte = how == 0   ? static_cast<char>(rng())
             : how == 1 ? static_cast<char>(0xff)
                        : static_cast<char>(byte ^ (1 << rng() % 8));
    }
    const Parsed parsed(mutated);
    refused += !parsed.file.ok();
    if (!parsed.file.ok()) continue;
    uint64_t touched = 0;  // reads every byte that was promised
    for (const GgufTensor& tensor : parsed.file->tensors()) {
      for (const std::byte byte : tensor.data) touched += static_cast<uint64_t>(byte);
    }
    (void)parsed.file->Strings("tokenizer.ggml.tokens");
    (void)parsed.file->Integers("tokenizer.ggml.token_type");
    EXPECT_LT(touched, 255u * whole.size());
  }
  EXPECT_GT(refused, 1000);
}

struct Refusal {
  const char* name;
  std::string bytes;
  const char* message;
};

std::vector<Refusal> Refusals() {
  const auto header = [](uint64_t tensors, uint64_t metadata) {
    GgufWriter writer;
    writer.num_tensors = tensors;
    writer.num_metadata = metadata;
    return writer.Bytes() + std::string(64, '\0');
  };
  const auto versioned = [](uint32_t version) {
    GgufWriter writer;
    writer.version = version;
    return writer.Bytes();
  };
  std::string long_array, nested_array;
  AppendValue<uint32_t>(long_array, 4);
  AppendValue<uint64_t>(long_array, uint64_t{1} << 62);  // times 4 bytes would wrap to 0
  AppendValue<uint32_t>(nested_array, 9);
  AppendValue<uint64_t>(nested_array, 1);
  std::string many_strings;
  AppendValue<uint32_t>(many_strings, 8);
  AppendValue<uint64_t>(many_strings, uint64_t{1} << 61);
  std::string long_text;
  AppendValue<uint64_t>(long_text, ~uint64_t{0});
  const std::string data(64, 'd');
  using W = GgufWriter;
  return {
      {"NoMagic", "GGML" + std::string(60, '\0'), "GGUF"},
      {"VersionOne", versioned(1), "version"},
      {"BigEndian", versioned(0x03000000), "big-endian"},
      {"AbsurdMetadataCount", header(0, ~uint64_t{0}), "metadata count"},
      {"AbsurdTensorCount", header(~uint64_t{0}, 0), "tensor count"},
      {"KeyTwice", W().Uint32("k", 1).Uint32("k", 2).Bytes(), "\"k\" occurs twice"},
      {"EmptyKey", W().Uint32("", 1).Bytes(), "key of metadata entry 0"},
      {"UnknownValueType", W().Raw("k", 99, data).Bytes(), "\"k\" has the value type 99"},
      {"BadBoolean", W().Raw("k", 7, "\2").Bytes(), "\"k\" is a boolean"},
      {"ArrayTooLong", W().Raw("k", 9, long_array).Bytes(), "\"k\" claims"},
      {"ArrayOfArrays", W().Raw("k", 9, nested_array).Bytes(), "\"k\" is an array of type 9"},
      {"TooManyStrings", W().Raw("k", 9, many_strings).Bytes(), "\"k\" claims"},
      {"StringTooLong", W().Raw("k", 8, long_text).Bytes(), "\"k\" at byte"},
      {"AlignmentNoPowerOfTwo", W().Uint32("general.alignment", 48).Zeros("t", {4}).Bytes(),
       "general.alignment"},
      {"AlignmentZero", W().Uint32("general.alignment", 0).Bytes(), "general.alignment"},
      {"AlignmentNoInteger", W().Text("general.alignment", "x").Bytes(), "general.alignment"},
      {"TensorTwice", W().Zeros("t", {4}).Zeros("t", {4}).Bytes(), "\"t\" occurs twice"},
      {"NoDimension", W().TensorAt("t", {}, 0, 0).Bytes() + data, "\"t\" has 0 dimensions"},
      {"FiveDimensions", W().TensorAt("t", {1, 1, 1, 1, 1}, 0, 0).Bytes() + data, "5 dimensions"},
      {"ZeroDimension", W().TensorAt("t", {4, 0}, 0, 0).Bytes() + data, "dimension 0"},
      {"AbsurdDimension", W().TensorAt("t", {uint64_t{1} << 40}, 0, 0).Bytes() + data, "dimension"},
      {"ProductOverflows", W().TensorAt("t", {1u << 30, 1u << 30, 1u << 30}, 0, 0).Bytes() + data,
       "overflows"},
      {"UnknownTensorType", W().TensorAt("t", {4}, 16, 0).Bytes() + data, "tensor type 16"},
      {"RowNoMultipleOfBlock", W().TensorAt("t", {33}, 3, 0).Bytes() + data, "multiple of 32"},
      {"OffsetMisaligned", W().TensorAt("t", {4}, 0, 8).Bytes() + data, "alignment"},
      {"OffsetBeyondFile", W().TensorAt("t", {4}, 0, 1 << 20).Bytes() + data, "\"t\" wants"},
      {"OffsetWraps", W().TensorAt("t", {64}, 0, ~uint64_t{31}).Bytes() + data, "\"t\" wants"},
      {"DataBeyondFile", W().TensorAt("t", {64}, 0, 0).Bytes() + data, "\"t\" wants 256 bytes"},
      {"Overlap", W().TensorAt("a", {16}, 0, 0).TensorAt("b", {4}, 0, 32).Bytes() + data,
       "\"b\" overlaps tensor \"a\""},
  };
}

class GgufRefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(GgufRefusalTest, NamesFileAndField) {
  const Parsed parsed(GetParam().bytes);
  ASSERT_FALSE(parsed.file.ok());
  EXPECT_THAT(parsed.Message(), HasSubstr("test.gguf: "));
  EXPECT_THAT(parsed.Message(), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(All, GgufRefusalTest, testing::ValuesIn(Refusals()),
                         [](const auto& info) { return info.param.name; });

TEST(GgufFileTest, EscapesForeignNamesInMessages) {
  const Parsed parsed(GgufWriter().Uint32("k\n\x1b[31m", 1).Uint32("k\n\x1b[31m", 1).Bytes());
  ASSERT_FALSE(parsed.file.ok());
  EXPECT_THAT(parsed.Message(), HasSubstr("k\\n\\x1b[31m"));
}

}  // namespace
}  // namespace holdfast
