#include "server/start_check.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "config/base/concat.h"
#include "config/daemon_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/command_line.h"

namespace holdfast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kHash[] = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

class StartCheckTest : public testing::Test {
 protected:
  StartCheckTest() {
    std::string pattern = testing::TempDir() + "start_check_XXXXXX";
    folder_ = mkdtemp(pattern.data());
    Write("model.gguf", "GGUF");
  }
  ~StartCheckTest() override { std::filesystem::remove_all(folder_); }

  std::string Write(std::string_view name, std::string_view text) {
    std::ofstream(Path(name)) << text;
    return Path(name);
  }
  std::string Path(std::string_view name) const { return Concat(folder_, "/", name); }

  // What is said of a file; its model is there unless the file names another.
  std::string Said(std::string_view yaml) const {
    auto config = ParseDaemonConfig(yaml, "f.yaml");
    EXPECT_TRUE(config.ok()) << config.status();
    if (!config.ok()) return "";
    if (config->model.path.empty()) config->model.path = Path("model.gguf");
    return std::string(CheckStart(*config).message());
  }

  std::string folder_;
};

TEST_F(StartCheckTest, LoopbackAndAModelAreEnough) { EXPECT_EQ(Said(""), ""); }

TEST_F(StartCheckTest, AnAddressThatOthersReachNeedsKeysOrAnExplicitWord) {
  const std::string open = "listen:\n  http: 0.0.0.0:80\n";
  EXPECT_THAT(Said(open), StartsWith("f.yaml:2: `listen.http` is 0.0.0.0:80, which others can"));
  EXPECT_THAT(Said("listen:\n  grpc: \"[::]:80\"\n"), StartsWith("f.yaml:2: `listen.grpc` is"));
  EXPECT_EQ(Said(open + "  allow_anonymous: true\n"), "");
  EXPECT_EQ(Said(Concat(open, "tenants: [{name: a, keys: [\"", kHash, "\"]}]\n")), "");
}

TEST_F(StartCheckTest, TlsFilesMustBeThereAndHoldSomething) {
  const std::string good = Write("good.pem", "-----BEGIN"), empty = Write("empty.pem", "");
  const auto tls = [](const std::string& certificate, const std::string& key) {
    return Concat("listen:\n  tls:\n    certificate_path: ", certificate, "\n    key_path: ", key);
  };
  EXPECT_EQ(Said(tls(good, good)), "");
  EXPECT_THAT(Said(tls(Path("absent.pem"), good)),
              AllOf(StartsWith("f.yaml:3: `listen.tls.certificate_path` is "),
                    HasSubstr("absent.pem, where there is no file")));
  EXPECT_THAT(Said(tls(good, folder_)),
              AllOf(StartsWith("f.yaml:4: `listen.tls.key_path` is "), HasSubstr("a folder")));
  EXPECT_THAT(Said(tls(good, empty)), HasSubstr("which is empty"));
}

TEST_F(StartCheckTest, ThePasswordOfTheRemoteTierMustBeInItsFile) {
  const auto remote = [](const std::string& path) {
    return Concat("kv:\n  remote:\n    url: cache:6379\n    password_path: ", path);
  };
  EXPECT_EQ(Said(remote(Write("password", "open sesame\n"))), "");
  EXPECT_THAT(Said(remote(Path("absent"))),
              AllOf(StartsWith("f.yaml:4: `kv.remote.password_path` is "),
                    HasSubstr("which cannot be read")));
  EXPECT_THAT(Said(remote(Write("empty", ""))), HasSubstr("whose first line is empty"));
}

TEST_F(StartCheckTest, AllFaultsComeInOneMessage) {
  EXPECT_EQ(Said("listen: {http: 0.0.0.0:80}\nmodel:\n  path: /nowhere/m.gguf\n"),
            "f.yaml:1: `listen.http` is 0.0.0.0:80, which others can reach, and no tenant has "
            "keys; add tenants with keys (holdfast keys new), listen on loopback only, or set "
            "listen.allow_anonymous\n"
            "f.yaml:3: `model.path` is /nowhere/m.gguf, where there is no model; run ./dev setup, "
            "which fetches the default one, or name one with --model or model.path");
}

TEST_F(StartCheckTest, AFlagIsNamedInPlaceOfTheLineThatItOverrides) {
  auto config = ParseDaemonConfig("listen:\n  http: 127.0.0.1:80\n", "f.yaml");
  ASSERT_TRUE(config.ok());
  const std::string words[] = {"serve", "--http", "0.0.0.0:80", "--model=/nowhere"};
  ASSERT_TRUE(ApplyOverrides(*ParseCommandLine(words), *config).ok());
  EXPECT_THAT(std::string(CheckStart(*config).message()),
              AllOf(StartsWith("--http: `listen.http` is 0.0.0.0:80"),
                    HasSubstr("\n--model: `model.path` is /nowhere, where")));
}

// serve without model.path: the default one has no line.
TEST_F(StartCheckTest, ADefaultThatIsNotThereIsNamedWithoutALine) {
  DaemonConfig config;
  config.model.path = "/nowhere/default.gguf";
  EXPECT_THAT(std::string(CheckStart(config).message()),
              StartsWith("`model.path` is /nowhere/default.gguf, where there is no model"));
}

}  // namespace
}  // namespace holdfast
