// Names of tools in answers, as models and agents write their calls.
#include "server/tool_names.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "config/limits.h"

namespace holdfast {
namespace {

std::string NameIn(std::string_view text, ToolCallFormat format = ToolCallFormat::kUnknown) {
  ToolNames names(format);
  names.Append(text);
  return names.Finish();
}

struct Answer {
  const char* text;
  const char* tool;
};

constexpr Answer kAnswers[] = {
    {"", ""},
    {"It is raining in Paris.", ""},
    // Hermes, Qwen.
    {"Let me see.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": "
     "\"Paris\"}}\n</tool_call>",
     "get_weather"},
    {"<tool_call>{\"arguments\": {\"name\": \"wrong\", \"x\": [1, {\"name\": \"no\"}]}, \"name\": "
     "\"late\"}</tool_call>",
     "late"},
    {"<tool_call>{\"name\": \"write\"}</tool_call>\n<tool_call>{\"name\": \"read\"}</tool_call>",
     "read+write"},
    {"<tool_call>{\"name\": \"read\"}</tool_call><tool_call>{\"name\": \"read\"}</tool_call>",
     "read"},
    {"<tool_call>{\"name\": \"say\", \"arguments\": {\"text\": \"a \\\"}] brace\"}}</tool_call>",
     "say"},
    {"<tool_call>{\"name\": \"cut\", \"arguments\": {\"te", ""},
    {"<tool_call>no JSON</tool_call><tool_call>{\"name\": \"then\"}", "then"},
    {"<<tool_call>{\"name\": \"twice\"}", "twice"},
    // Tags.
    {"<tool_call>\n<function=read>\n<parameter=path>\na>b\n</parameter>\n</function>\n"
     "</tool_call>",
     "read"},
    {"<tool_call><function=cut><parameter=path>", ""},
    {"<tool_call><function=read></function></tool_call>\n<tool_call><function=cut>", "read"},
    // Mistral.
    {"[TOOL_CALLS][{\"name\": \"add\", \"arguments\": {\"a\": 1}}, {\"name\": \"add2\", "
     "\"arguments\": {}}]",
     "add+add2"},
    {"[TOOL_CALLS] {\"name\": \"one\", \"arguments\": {}}", "one"},
    {"[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]clock[ARGS]{}",
     "clock+get_weather"},
    {"[TOOL_CALLS]get_weather{\"city\": \"Paris\"}", "get_weather"},
    {"[TOOL_CALLS]words without a call", ""},
    // Llama 3.
    {"{\"name\": \"search\", \"parameters\": {\"q\": \"x\"}}", "search"},
    {" {\"type\": \"function\", \"name\": \"search\", \"parameters\": null}", "search"},
    {"{\"name\": \"a\", \"parameters\": {}}; {\"name\": \"b\", \"parameters\": {}}", "a+b"},
    {"<|python_tag|>{\"name\": \"search\", \"parameters\": {}}", "search"},
    {"<|python_tag|>{\"name\": \"cut\", \"parameters\": {", ""},
    {"\n<|python_tag|> brave_search.call(query=\"x\")", "brave_search"},
    {"<|python_tag|>import math\nprint(math.pi)", "python"},
    {"{\"name\": \"Bob\", \"age\": 3}", ""},
    {"Here: {\"name\": \"search\", \"parameters\": {}}", ""},
    // mini-swe-agent.
    {"THOUGHT: look.\n\n```bash\nls -la /testbed\n```", "ls"},
    {"```bash\n# where\n\n  cd /testbed && grep -rn x .\n```\n", "cd"},
    {"```mswea_bash_command\npytest;\n```", "pytest"},
    {"```python\nimport os\n```", ""},
    {"```bash\nls\n", ""},
    {"```bash\nls\n```\nor\n```bash\ncat x\n```", ""},
    {"```\nls\n```", ""},
};

TEST(ToolNamesTest, NamesAreFoundInTheFormatsThatModelsAndAgentsUse) {
  for (const Answer& answer : kAnswers) EXPECT_EQ(NameIn(answer.text), answer.tool) << answer.text;
}

TEST(ToolNamesTest, HowTheTextIsCutIntoPiecesDoesNotMatter) {
  std::mt19937 rng(7);
  for (const Answer& answer : kAnswers) {
    for (int round = 0; round < 20; ++round) {
      ToolNames names(ToolCallFormat::kUnknown);
      std::string_view left = answer.text;
      while (!left.empty()) {
        const size_t bytes = 1 + rng() % left.size();
        names.Append(left.substr(0, bytes));
        left.remove_prefix(bytes);
      }
      EXPECT_EQ(names.Finish(), answer.tool) << answer.text;
    }
  }
}

TEST(ToolNamesTest, TheModelsOwnFormatCountsBeforeOthers) {
  const std::string both =
      "[TOOL_CALLS][{\"name\": \"own\"}]<tool_call>{\"name\": \"other\"}</tool_call>";
  EXPECT_EQ(NameIn(both, ToolCallFormat::kMistral), "own");
  EXPECT_EQ(NameIn(both, ToolCallFormat::kHermes), "other");
  EXPECT_EQ(NameIn("```bash\nls\n```", ToolCallFormat::kHermes), "ls") << "as its agent asked";
  EXPECT_EQ(NameIn(R"( [b(x="a\")(", y=[1, {'z': 2}]), a()])", ToolCallFormat::kPython), "a+b");
  EXPECT_EQ(NameIn("[b(x=1), cut(", ToolCallFormat::kPython), "b");
  EXPECT_EQ(NameIn("[1, 2]", ToolCallFormat::kPython), "");
}

TEST(ToolNamesTest, NamesAndTheirNumberAreBounded) {
  std::string many;
  for (int i = 0; i < 1000; ++i) {
    many += "<tool_call>{\"name\": \"tool" + std::to_string(i) + "\"}</tool_call>";
  }
  EXPECT_LE(NameIn(many).size(), kToolNameBytesMax);
  const std::string longest(100'000, 'x');
  EXPECT_EQ(NameIn("<tool_call>{\"name\": \"" + longest + "\"}"), "") << "as for the client";
  EXPECT_EQ(NameIn("```bash\n" + longest + "\n```"), std::string(kToolNameBytesMax, 'x'));
}

// Whatever comes: it ends, and within its bounds.
TEST(ToolNamesTest, AnyTextIsRead) {
  const std::vector<std::string> pieces = {"<tool_call>",
                                           "[TOOL_CALLS]",
                                           "<|python_tag|>",
                                           "```bash\n",
                                           "```",
                                           "{\"name\":",
                                           "\"x\"",
                                           "}",
                                           "]",
                                           "[",
                                           "\\",
                                           "\n",
                                           ",",
                                           ":",
                                           ".call(",
                                           " "};
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    std::mt19937 rng(seed);
    std::string text;
    for (int i = 0; i < 30; ++i) text += pieces[rng() % pieces.size()];
    EXPECT_LE(NameIn(text).size(), kToolNameBytesMax);
  }
}

}  // namespace
}  // namespace holdfast
