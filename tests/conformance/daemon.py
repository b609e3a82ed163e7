"""Starts the built daemon on ports that the system picks, and stops it."""

import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("HOLDFAST_BINARY", ROOT / "build/release/holdfast"))


class Daemon:
    """A running `holdfast serve`. `arguments` go to the command line, `config` is YAML text. With
    wait=False it may still be starting: wait_ready() before anything is asked of it."""

    def __init__(self, *arguments, config=None, model=None, wait=True):
        self.folder = tempfile.TemporaryDirectory(prefix="holdfast-")
        folder = pathlib.Path(self.folder.name)
        self.port_file = folder / "ports.json"
        command = [str(BINARY), "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0",
                   "--port-file", str(self.port_file)]
        model = model or os.environ.get("HOLDFAST_MODEL")
        if model:
            command += ["--model", str(model)]
        if config is not None:
            (folder / "config.yaml").write_text(config)
            command += ["--config", str(folder / "config.yaml")]
        self.log_path = folder / "log"
        self.log = open(self.log_path, "wb")
        self.started = time.monotonic()
        self.process = subprocess.Popen(command + list(arguments), stderr=self.log,
                                        stdout=self.log, start_new_session=True)
        if wait:
            self.wait_ready()

    def wait_ready(self):
        """Seconds from start to ready, seen within 20 ms."""
        while not self.port_file.exists():
            if self.process.poll() is not None or time.monotonic() > self.started + 120:
                text = self.log_path.read_text(errors="replace")
                self.stop()
                raise RuntimeError(f"the daemon did not get ready:\n{text}")
            time.sleep(0.02)
        seconds = time.monotonic() - self.started
        ports = json.loads(self.port_file.read_text())
        self.http, self.grpc, self.admin = ports["http"], ports["grpc"], ports["admin"]
        self.url = f"http://127.0.0.1:{self.http}"
        return seconds

    def get(self, path):
        """(status, body) of a plain GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name, **labels):
        """Sum of the samples of one metric whose labels contain `labels`."""
        total, seen = 0.0, False
        for line in self.get("/metrics")[1].splitlines():
            if not line.startswith("#") and line.split("{")[0].split(" ")[0] == name:
                if all(f'{k}="{v}"' in line for k, v in labels.items()):
                    total, seen = total + float(line.rsplit(" ", 1)[1]), True
        assert seen, f"no metric {name} {labels}"
        return total

    def resident_bytes(self):
        """Without pages of files (more of the model's are there with each token that was new) and
        shared memory."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no RssAnon")

    def fill_memory(self, headers=None):
        """Touches what is touched once: each block of a KV pool of 64 MiB, and what a step of as
        many sequences as run at a time needs."""
        bodies = [{"prompt": f"{i}" + " one two three" * 400, "max_tokens": 1} for i in range(3)]
        bodies.append({"prompt": ["One", "Two", "Three", "Four"], "n": 16, "max_tokens": 16})
        for body in bodies:
            request = urllib.request.Request(f"{self.url}/v1/completions", json.dumps(body).encode(),
                                             headers or {})
            with urllib.request.urlopen(request, timeout=300) as answer:
                answer.read()
        assert self.metric("holdfast_kvstore_blocks", state="free") < 64

    def terminate(self, timeout=60):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def new_key(tenant):
    """(key, hash line) as `holdfast keys new` prints them."""
    text = subprocess.run([str(BINARY), "keys", "new", "--tenant", tenant], check=True,
                          capture_output=True, text=True).stdout
    words = text.split()
    key = next(w for w in words if w.startswith("hf-"))
    digest = next(w.strip("\"'") for w in words if "sha256:" in w)
    return key, digest


def wait_until(condition, seconds=30):
    """Polls an outside condition; a bound, not a measurement."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
