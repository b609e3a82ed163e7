// How many instructions a piece of work takes: a figure that repeats where time does not. Counted
// in a copy of this process that is run step by step (ptrace), so that it needs no counter of the
// processor, which virtual machines often hide; a million takes about five seconds.
//
// Thread: of a process with one thread.
#pragma once

#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>

#include "config/base/check.h"

namespace holdfast {

// Of `work`, called once to warm up and once counted. A repeated string instruction counts once.
// 0: this process may not trace.
template <typename Work>
uint64_t InstructionsOf(const Work& work) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    work();
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(1);
    raise(SIGSTOP);
    work();
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  if (!WIFSTOPPED(status)) return 0;
  uint64_t count = 0;
  long at = 0;
  while (true) {
    CHECK(ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    if (WSTOPSIG(status) != SIGTRAP) break;  // the second stop
    const long now = ptrace(PTRACE_PEEKUSER, child, offsetof(user_regs_struct, rip), nullptr);
    count += now != at ? 1 : 0;
    at = now;
  }
  kill(child, SIGKILL);
  CHECK(waitpid(child, &status, 0) == child);
  return count;
}

}  // namespace holdfast
