"""`holdfast top` over a real daemon: as text, and in a terminal of the kernel's (pty)."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
import urllib.request

import pytest

from daemon import BINARY, Daemon, new_key, wait_until

SMALL = ("--context-tokens", "1024", "--kv-device-bytes", "64MiB")
EVIL = "evil\x1b[2J\x07\u202e-日本"  # clears the screen, rings, turns the direction
SHOWN = "evil?[2J??-日本"
TAKEN, GIVEN_BACK = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"


def environment(**more):
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return {**plain, "LC_ALL": "C.UTF-8", "TERM": "xterm", **more}


def top(*arguments, **options):
    return subprocess.run([str(BINARY), "top", *arguments], capture_output=True, text=True,
                          timeout=120, env=environment(), **options)


class Load:
    """Completions of one session after the other until it is left."""

    def __init__(self, daemon, key="none", session=EVIL):
        self.ended = threading.Event()
        self.arguments = (daemon.url, key, session)
        self.threads = [threading.Thread(target=self.run) for _ in range(3)]

    def run(self):
        url, key, session = self.arguments
        body = {"prompt": [7] * 60, "max_tokens": 800, "ignore_eos": True, "session_id": session,
                "kv_hints": {"action": "kv.retain", "ttl_ms": 600000}}
        while not self.ended.is_set():
            request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(),
                                             {"Authorization": f"Bearer {key}"})
            try:
                urllib.request.urlopen(request, timeout=120).read()
            except OSError:
                time.sleep(0.1)  # the daemon is stopped under it

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()


class InTerminal:
    """`holdfast top` in a terminal of its own; `screen()` is what a person would see."""

    def __init__(self, *arguments, columns=80, rows=24, **more):
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows, None)
        self.before = termios.tcgetattr(self.slave)
        self.written = ""
        self.process = subprocess.Popen(
            [str(BINARY), "top", "--interval", "200ms", *arguments], stdin=self.slave,
            stdout=self.slave, stderr=self.slave, env=environment(**more), start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, columns, rows, to=signal.SIGWINCH):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if to:
            self.process.send_signal(to)

    def read(self, seconds=0.0):
        while select.select([self.master], [], [], seconds)[0]:
            self.written += os.read(self.master, 1 << 16).decode()
            seconds = 0.02

    def screen(self):
        """The last frame, line by line, without its looks; written at one go, so it is whole."""
        self.read(0.05)
        lines = re.split(r"\x1b\[\d+H\x1b\[[KJ]", self.written.split("\x1b[1H\x1b[K")[-1])
        return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]

    def sees(self, text):
        return wait_until(lambda: text in "\n".join(self.screen()))

    def ended(self):
        """The exit status; the terminal is as it was, or this fails."""
        status = self.process.wait(60)
        self.read()
        assert self.written.count(TAKEN) == self.written.count(GIVEN_BACK) == 1
        assert termios.tcgetattr(self.slave) == self.before
        assert not fcntl.fcntl(self.slave, fcntl.F_GETFL) & os.O_NONBLOCK
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(scope="module")
def administered(tmp_path_factory):
    """(daemon, its administrators' URL, a file with their key, one with a tenant's, that key)"""
    folder = tmp_path_factory.mktemp("keys")
    (admin, admin_hash), (blue, blue_hash) = new_key("x"), new_key("blue")
    (folder / "admin").write_text(admin + "\n")
    (folder / "blue").write_text(blue + "\n")
    config = (f'admin:\n  http: 127.0.0.1:0\n  keys: ["{admin_hash}"]\n'
              f'tenants:\n  - name: blue\n    keys: ["{blue_hash}"]\n  - name: red\n'
              f'    keys: ["{new_key("red")[1]}"]\n')
    with Daemon(*SMALL, config=config) as daemon:
        yield daemon, f"http://127.0.0.1:{daemon.admin}", folder / "admin", folder / "blue", blue


def test_one_frame_has_tenants_sequences_kv_and_pins(administered):
    daemon, url, key_file, _, blue = administered
    with Load(daemon, blue):
        assert wait_until(lambda: daemon.metric("holdfast_server_completion_tokens_total") > 300)
        told = top("--url", url, "--key-file", str(key_file), "--once", "--interval", "500ms")
    assert told.returncode == 0 and told.stderr == ""
    lines = told.stdout.splitlines()
    assert lines[0] == f"holdfast top  {url}"
    assert re.match(r"3 of \d+ places run, 0 wait   policy continuum", lines[1])
    assert float(re.match(r"tokens/s (\S+) drawn", lines[2]).group(1)) > 0
    assert re.search(r"next token p50 \S+ p95 \S+  of the last [\d.]+m?s$", lines[3])
    assert re.match(r"device +64M \[#+", lines[4])
    assert re.search(r"# in use [1-9]\d*%", lines[5])
    tenant = next(line for line in lines if line.startswith("blue "))
    assert tenant.split()[1] == "3" and any(line.startswith("red ") for line in lines)
    assert "3 RUNNING" in told.stdout and "\n0 WAITING" in told.stdout
    running = [line for line in lines if line.startswith("cmpl-")]
    assert len(running) == 3 and all("blue" in line and SHOWN in line for line in running)
    # Of those that drew before, the session's KV is kept for its next turn.
    told = top("--url", url, "--key-file", str(key_file), "--once", "--interval", "100ms")
    assert re.search(rf"\n1 PINS .*\n{re.escape(SHOWN)} +blue +asked +\S+ +9m", told.stdout)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", told.stdout)


def test_what_keeps_it_from_looking_is_told_with_what_to_do(administered, tmp_path):
    daemon, url, key_file, blue_file, _ = administered

    def refusal(*arguments):
        for way in (["--once"], []):  # at the start also of one that would go on
            told = top(*arguments, *way)
            assert told.returncode == 1 and told.stdout == "", told
        return told.stderr

    assert "name a file with a key: --key-file" in refusal("--url", url)
    assert "is the key of --key-file for this port?" in refusal(
        "--url", url, "--key-file", str(blue_file))
    assert "port for administrators" in refusal("--url", daemon.url, "--key-file", str(blue_file))
    told = top("--url", "http://127.0.0.1:1", "--once")
    assert told.returncode == 1
    assert "does not answer: Connection refused; is holdfast serve running there?" in told.stderr
    assert top("--url", "nowhere").returncode == 1
    assert top("--interval").returncode == 2


def test_a_configuration_leads_to_its_daemon(tmp_path):
    key, digest = new_key("blue")
    (tmp_path / "key").write_text(key)
    config = f'tenants:\n  - name: blue\n    keys: ["{digest}"]\n'
    with Daemon(*SMALL, config=config) as daemon:
        (tmp_path / "config.yaml").write_text(
            config + f"listen:\n  http: 127.0.0.1:{daemon.http}\n")
        told = top("--config", str(tmp_path / "config.yaml"), "--key-file", str(tmp_path / "key"),
                   "--once", "--interval", "100ms")
    assert told.returncode == 0, told
    assert "this tenant's part: 0 run, 0 wait" in told.stdout  # it is no administrator
    assert "\n1 TENANTS" in told.stdout and "\nblue " in told.stdout


def test_a_reader_that_leaves_ends_it_without_a_word(daemon):
    told = subprocess.run(["sh", "-c", f"{BINARY} top --url {daemon.url} | head -1"],
                          capture_output=True, text=True, timeout=120, env=environment())
    assert told.stdout == f"holdfast top  {daemon.url}\n" and told.stderr == ""
    with open("/dev/full", "w") as full:
        told = subprocess.run([BINARY, "top", "--url", daemon.url, "--once"], stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=120)
    assert told.returncode == 1 and "standard output takes no more" in told.stderr


def test_a_terminal_is_drawn_over_and_given_back(daemon):
    with Load(daemon), InTerminal("--url", daemon.url) as terminal:
        assert terminal.sees("3 RUNNING") and terminal.sees(SHOWN)
        assert terminal.sees("of the last 9")  # seconds: it goes on
        screen = terminal.screen()
        assert len(screen) <= 25 and screen[0].endswith("every 200ms, q quits")
        assert "\x1b[32m#" in terminal.written  # the bar in its colour
        os.write(terminal.master, b"xyz\x1b[A")  # not its keys
        assert terminal.sees("next token p50")
        terminal.written = TAKEN
        os.write(terminal.master, b"q")
        assert terminal.ended() == 0
        # Neither what was pressed nor what clients call themselves is echoed.
        assert "xyz" not in terminal.written and EVIL not in terminal.written


def test_without_colour_there_is_none(daemon):
    with InTerminal("--url", daemon.url, NO_COLOR="1") as terminal:
        assert terminal.sees("0 RUNNING") and terminal.sees("tokens/s")
        assert not re.search(r"\x1b\[(?:\d;)?3\dm", terminal.written)
    with InTerminal("--url", daemon.url, TERM="dumb") as terminal:
        assert wait_until(lambda: terminal.read() or terminal.written.count("0 RUNNING") > 1)
        assert "\x1b" not in terminal.written


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_the_terminal_is_given_back(daemon, sent):
    with InTerminal("--url", daemon.url) as terminal:
        assert terminal.sees("0 RUNNING")
        terminal.process.send_signal(sent)
        assert terminal.ended() == 0


def test_frames_follow_the_size_of_the_terminal(daemon):
    with InTerminal("--url", daemon.url, "--interval", "1h") as terminal:
        assert terminal.sees("0 RUNNING")
        for columns, rows in ((200, 50), (20, 24), (80, 5), (1, 1), (80, 24)):
            terminal.written = ""
            terminal.resize(columns, rows)
            assert wait_until(lambda: terminal.read() or terminal.written)
            lines = terminal.screen()
            # One more where it clears what is below the last.
            assert len(lines) <= rows + 1 and max(map(len, lines)) <= columns
            assert lines[0].startswith("holdfast top  "[:columns - 1])


def test_nobody_there_is_said_and_asked_again_until_somebody_is():
    with Daemon(*SMALL) as daemon:
        url, port = daemon.url, daemon.http
        with InTerminal("--url", url) as terminal:
            assert terminal.sees("0 RUNNING")
            daemon.stop()
            assert terminal.sees("does not answer: Connection refused; is holdfast serve running")
            assert terminal.sees("0 RUNNING")  # what was seen last stays
            with Daemon(*SMALL, "--http", f"127.0.0.1:{port}"):
                assert wait_until(lambda: "answer" not in "\n".join(terminal.screen()))
                os.write(terminal.master, b"q")
                assert terminal.ended() == 0


def test_a_daemon_that_hangs_keeps_nobody_from_leaving(daemon):
    with InTerminal("--url", daemon.url) as terminal:
        assert terminal.sees("0 RUNNING")
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.5)  # asked meanwhile
            began = time.monotonic()
            os.write(terminal.master, b"q")
            assert terminal.ended() == 0
            assert time.monotonic() - began < 2
        finally:
            daemon.process.send_signal(signal.SIGCONT)


def test_five_hundred_tenants_are_counted_where_they_do_not_fit(tmp_path):
    admin, admin_hash = new_key("x")
    (tmp_path / "key").write_text(admin)
    one = new_key("one")[1]  # the last digits differ
    tenants = "".join(f'  - name: {"t" * 50}-{i}\n    keys: ["{one[:-4]}{i:04x}"]\n'
                      for i in range(500))
    config = f'admin:\n  http: 127.0.0.1:0\n  keys: ["{admin_hash}"]\ntenants:\n' + tenants
    with Daemon(*SMALL, config=config) as daemon:
        arguments = ("--url", f"http://127.0.0.1:{daemon.admin}", "--key-file",
                     str(tmp_path / "key"))
        with InTerminal(*arguments) as terminal:
            assert terminal.sees(" of 500 TENANTS ")
            assert terminal.sees("tttttttt~")
        told = top(*arguments, "--once", "--interval", "100ms")
        assert told.stdout.count("\nttttt") == 500


def test_a_shell_has_its_terminal_while_it_is_stopped(daemon):
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe("bash", ["bash", "--norc", "-i"], environment(PS1="$ "))
    said = ""

    def says(text):
        nonlocal said
        while text not in said and select.select([terminal], [], [], 0.02)[0]:
            said += os.read(terminal, 1 << 16).decode()
        return text in said

    def enter(typed, answer):
        nonlocal said
        said = ""
        os.write(terminal, typed)
        assert wait_until(lambda: says(answer)), said

    enter(f"{BINARY} top --url {daemon.url}\n".encode(), "0 RUNNING")
    enter(b"\x1a", "Stopped")  # Ctrl-Z
    assert GIVEN_BACK in said
    enter(b"fg\n", TAKEN)
    enter(b"q", GIVEN_BACK)
    enter(b"echo status=$?\n", "status=0\r")
    os.close(terminal)
    os.waitpid(process, 0)
