"""The load that keeps the engine as busy as a run is meant to on the machine it runs on: looked for
on the simulator, by a cost profile that was measured here."""

import json
import math
import subprocess

from daemon import BINARY


def holdfast(*arguments):
    done = subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"holdfast {arguments[0]} failed:\n{done.stderr}")
    return done


def measure_profile(path, args):
    """What steps take here, of --model with --threads; half a minute."""
    done = holdfast("bench", "profile", "--model", args.model, "--threads", args.threads,
                    "--kv-device-bytes", "1GiB", "--context-tokens", "1300", "--out", path)
    path.with_suffix(".steps").write_text(done.stderr)


def load_for(target, busy_at, least, most):
    """The load at which busy_at(load) is `target`: busy_at rises, but for what is drawn."""
    for _ in range(10):
        load = math.sqrt(least * most)
        if busy_at(load) < target:
            least = load
        else:
            most = load
    return math.sqrt(least * most)


def remembered(path, choose):
    """What choose() gave when it was first asked for: the runs of a folder are at one load."""
    if not path.exists():
        path.write_text(json.dumps(choose()))
    return json.loads(path.read_text())
