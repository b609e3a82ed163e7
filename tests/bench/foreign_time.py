"""How much of the processors others took while something was measured: what the system counts as busy
or stolen, less what the measured processes took themselves. A run beside others measures them too."""

import os
import resource
import time

TICKS = os.sysconf("SC_CLK_TCK")


def _system_busy():
    with open("/proc/stat") as file:
        fields = [int(x) for x in file.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / TICKS


def _own(pids):
    seconds = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        seconds += usage.ru_utime + usage.ru_stime
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        seconds += (int(fields[11]) + int(fields[12])) / TICKS
    return seconds


class ForeignTime:
    """From its making to share(). `pids` are processes that live throughout; children that end
    meanwhile are counted by themselves."""

    def __init__(self, *pids):
        self.pids = pids
        self.begin, self.busy, self.own = time.monotonic(), _system_busy(), _own(pids)

    def share(self):
        """Of all processors, 0 to 1."""
        whole = (time.monotonic() - self.begin) * os.cpu_count()
        foreign = (_system_busy() - self.busy) - (_own(self.pids) - self.own)
        return max(foreign, 0.0) / whole
