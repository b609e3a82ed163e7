"""HAProxy and nginx before two daemons, with the configuration of deploy/, of which addresses alone are
replaced; and SMG (the router that was sglang-router), by its command line."""

import csv
import io
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

from daemon import ROOT, Daemon, wait_until


def program(name):
    """Its path, or None: Debian has two of them where only root looks by default, ./dev has the third
    in an environment of its own."""
    ours = pathlib.Path(os.environ.get("HOLDFAST_HOME", "~/.cache/holdfast")).expanduser()
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:{ours}/python/smg/bin")


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Place:
    """An address where one daemon follows the other."""

    def __init__(self, kv_mib, arguments):
        self.arguments = ["--kv-device-bytes", f"{kv_mib}MiB", "--drain-timeout", "120s", *arguments]
        self.http, self.grpc = free_port(), free_port()
        self.start()

    def start(self):
        self.daemon = Daemon("--http", f"127.0.0.1:{self.http}", "--grpc", f"127.0.0.1:{self.grpc}",
                             *self.arguments)

    def restart(self):
        """(exit code, seconds from SIGTERM to the end, seconds from start to ready)"""
        began = time.monotonic()
        code = self.daemon.terminate(timeout=300)
        ended = time.monotonic()
        self.daemon.stop()
        self.start()
        return code, ended - began, time.monotonic() - ended

    def stop(self):
        self.daemon.stop()


class HaProxy:
    def __init__(self, places):
        self.port, self.grpc, self.stats = free_port(), free_port(), free_port()
        a, b = places
        self.folder = tempfile.TemporaryDirectory(prefix="holdfast-balancer-")
        self.log_path = pathlib.Path(self.folder.name) / "log"
        environment = {"HOLDFAST_BIND": self.port, "HOLDFAST_GRPC_BIND": self.grpc,
                       "HOLDFAST_STATS_BIND": self.stats, "HOLDFAST_A": a.http, "HOLDFAST_B": b.http,
                       "HOLDFAST_GRPC_A": a.grpc, "HOLDFAST_GRPC_B": b.grpc}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [program("haproxy"), "-db", "-f", str(ROOT / "deploy/haproxy/haproxy.cfg")], stderr=log,
                env=os.environ | {name: f"127.0.0.1:{port}" for name, port in environment.items()})
        self.url = f"http://127.0.0.1:{self.port}"
        assert wait_until(self.answers), self.log_path.read_text()

    def answers(self):
        try:
            return all(row["status"] == "UP" for row in self.servers())
        except OSError:
            return False

    def servers(self):
        """Rows of the backend for generations."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.stats}/;csv", timeout=10) as answer:
            rows = csv.DictReader(io.StringIO(answer.read().decode().removeprefix("# ")))
            return [row for row in rows if row["pxname"] == "holdfast" and row["svname"] in "ab"]

    def wait_all_up(self):
        assert wait_until(self.answers), "the balancer does not see a daemon that is ready"

    def told(self):
        rows = self.servers()
        return (f"requests by daemon {' and '.join(row['stot'] for row in rows)}, sent again "
                f"{sum(int(row['wretr']) for row in rows)}")

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class Nginx:
    FORGIVES_SECONDS = 6  # fail_timeout and one more: until it asks a daemon again that refused

    def __init__(self, places):
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory(prefix="holdfast-balancer-")
        folder = pathlib.Path(self.folder.name)
        folder.chmod(0o755)
        text = (ROOT / "deploy/nginx/nginx.conf").read_text()
        scratch = "".join(f"    {name}_temp_path {folder}/{name};\n"
                          for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        for old, new in (("0.0.0.0:8000", f"127.0.0.1:{self.port}"),
                         ("127.0.0.1:8080", f"127.0.0.1:{places[0].http}"),
                         ("127.0.0.1:8081", f"127.0.0.1:{places[1].http}"),
                         ("/var/log/nginx/holdfast.log", str(folder / "access.log")),
                         ("http {\n", "http {\n" + scratch)):
            assert text.count(old) == 1, f"deploy/nginx/nginx.conf: {old}"
            text = text.replace(old, new)
        (folder / "nginx.conf").write_text(text)
        self.process = subprocess.Popen(
            [program("nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder),
             "-e", str(folder / "error.log"),
             "-g", f"daemon off; pid {folder}/pid;"])
        self.access_log = folder / "access.log"
        self.url = f"http://127.0.0.1:{self.port}"
        assert wait_until(self.answers), (folder / "error.log").read_text()

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=10) as answer:
                return answer.status == 200
        except OSError:
            return False

    def wait_all_up(self):
        time.sleep(self.FORGIVES_SECONDS)

    def told(self):
        lines = self.access_log.read_text().splitlines()
        again = sum(1 for line in lines if re.search(r'" \d+ \S+, ', line))
        return f"requests {len(lines)}, sent again {again}"

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class Smg:
    def __init__(self, places, policy="cache_aware"):
        self.port, self.metrics = free_port(), free_port()
        self.policy = policy
        self.folder = tempfile.TemporaryDirectory(prefix="holdfast-balancer-")
        self.log_path = pathlib.Path(self.folder.name) / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [program("smg"), "launch", "--host", "127.0.0.1", "--port", str(self.port),
                 "--prometheus-host", "127.0.0.1", "--prometheus-port", str(self.metrics),
                 "--worker-urls", *(f"http://127.0.0.1:{place.http}" for place in places),
                 "--policy", policy, "--health-check-endpoint", "/health/ready",
                 "--health-check-interval-secs", "1", "--health-failure-threshold", "1",
                 "--health-success-threshold", "1"], stdout=log, stderr=log)
        self.url = f"http://127.0.0.1:{self.port}"
        self.places = places
        if not wait_until(lambda: self.num_up() == len(places)):
            said = self.log_path.read_text()
            self.stop()
            raise AssertionError(said)

    def num_up(self):
        try:
            with urllib.request.urlopen(f"{self.url}/workers", timeout=10) as answer:
                return sum(worker["is_healthy"] for worker in json.load(answer)["workers"])
        except OSError:
            return 0

    def wait_all_up(self):
        assert wait_until(lambda: self.num_up() == len(self.places)), \
            "the balancer does not see a daemon that is ready"

    def told(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()

        def count(start):
            return sum(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))

        each = [count(f'smg_worker_requests_total{{worker="http://127.0.0.1:{place.http}"')
                for place in self.places]
        return (f"policy {self.policy}, requests by daemon {' and '.join(map(str, each))}, sent again "
                f"{count('smg_worker_retries_total{')}")

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


BALANCERS = {"haproxy": HaProxy, "nginx": Nginx, "smg": Smg}
