"""What must be so once a load is over."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
from daemon import wait_until  # noqa: E402

RSS_GROWTH_MAX = 0.05  # share of the resident size after the warm-up


def faults_after(daemon, warm):
    """Prints what is left and says what should not be: work, KV blocks, or more memory than the
    `warm` bytes before."""
    idle = wait_until(lambda: daemon.metric("vllm:num_requests_running") == 0
                      and daemon.metric("vllm:num_requests_waiting") == 0)
    held = daemon.metric("holdfast_kvstore_blocks", state="held")
    resident = daemon.resident_bytes()
    print(f"idle {idle}, blocks held {held:.0f}, resident {warm / 2**20:.1f} -> "
          f"{resident / 2**20:.1f} MiB")
    faults = []
    if not idle:
        faults.append("something still runs")
    if held:
        faults.append(f"{held:.0f} blocks not back")
    if resident > warm * (1 + RSS_GROWTH_MAX):
        faults.append("resident memory grew")
    return faults
