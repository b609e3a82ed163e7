// A real redis-server of a test's own, on a Unix socket in a directory of its own.
#pragma once

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

namespace holdfast {

class RedisProcess final {
 public:
  // Where the server's program is; empty: not installed.
  static std::string Find() {
    for (const char* path : {"/usr/bin/redis-server", "/usr/bin/valkey-server",
                             "/usr/local/bin/redis-server", "/usr/local/bin/valkey-server"}) {
      if (access(path, X_OK) == 0) return path;
    }
    return "";
  }

  RedisProcess(std::string directory, std::vector<std::string> more = {})
      : directory_(std::move(directory)), more_(std::move(more)) {}
  ~RedisProcess() { Kill(); }
  RedisProcess(const RedisProcess&) = delete;

  std::string endpoint() const { return "unix:" + directory_ + "/socket"; }

  // False: it did not come up; its last words are in `output`.
  bool Start(std::string& output) {
    std::vector<std::string> arguments = {
        Find(),         "--port", "0",     "--unixsocket", directory_ + "/socket", "--save", "",
        "--appendonly", "no",     "--dir", directory_,     "--daemonize",          "no"};
    arguments.insert(arguments.end(), more_.begin(), more_.end());
    int log[2];
    if (pipe(log) != 0) return false;
    process_ = fork();
    if (process_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(log[1], STDOUT_FILENO);
      dup2(log[1], STDERR_FILENO);
      close(log[0]);
      close(log[1]);
      std::vector<char*> raw;
      for (std::string& argument : arguments) raw.push_back(argument.data());
      raw.push_back(nullptr);
      execv(raw[0], raw.data());
      _exit(127);
    }
    close(log[1]);
    log_ = log[0];
    char byte = 0;
    while (output.find("eady to accept connections") == std::string::npos) {
      if (read(log_, &byte, 1) != 1) return false;
      output.push_back(byte);
    }
    return true;
  }

  void Pause() { kill(process_, SIGSTOP); }
  void Resume() { kill(process_, SIGCONT); }
  void Kill() {
    if (process_ <= 0) return;
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    close(log_);
    process_ = -1;
  }

 private:
  const std::string directory_;
  const std::vector<std::string> more_;
  pid_t process_ = -1;
  int log_ = -1;  // kept open, so that the server can go on writing
};

}  // namespace holdfast
