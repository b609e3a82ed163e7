"""Runs the root that scripts/image.sh made as deploy/Dockerfile says it is run: read-only, by an
unprivileged user without capabilities, as process 1 of namespaces of its own. `./dev container-test`
starts it in a network namespace, so that the image's own ports are free.

    container.py ROOT MODEL
"""

import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "deploy/Dockerfile").read_text()
SIZE_MAX = 60 << 20  # of the image without a model; more is somebody's new dependency

# As process 1; the root is mounted over itself to be read-only.
INSIDE = """
set -e
mount --bind "$ROOT" "$ROOT"
mount --bind "$MODELS" "$ROOT/var/lib/holdfast/models"
mount -o remount,ro,bind "$ROOT"
mount -o remount,ro,bind "$ROOT/var/lib/holdfast/models"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
exec chroot --userspec="$WHO" "$ROOT" "$@"
"""


def instruction(name):
    """The last of that name, without what comes before a command in brackets."""
    words = re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)[-1]
    return json.loads(words[words.index("["):]) if "[" in words else words


def command(root, model, *arguments):
    """As `docker run --read-only --cap-drop ALL --security-opt no-new-privileges` would."""
    environment = {"ROOT": root, "MODELS": str(pathlib.Path(model).parent),
                   "WHO": instruction("USER"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return dict(env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                args=["setpriv", "--no-new-privs", "unshare", "--mount", "--pid", "--ipc", "--uts",
                      "--fork", "--kill-child", "sh", "-c", INSIDE, "sh", *arguments])


def health(root, model):
    """(exit code, what it said) of the image's health check."""
    check = re.search(r"HEALTHCHECK .*CMD (.*)", DOCKERFILE).group(1)
    run = subprocess.run(**command(root, model, *json.loads(check)), timeout=60)
    return run.returncode, (run.stdout + run.stderr).strip()


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def ask(**body):
    body = {"messages": [{"role": "user", "content": "What is the capital of France?"}],
            "temperature": 0, **body}
    request = urllib.request.Request("http://127.0.0.1:8080/v1/chat/completions",
                                     json.dumps(body).encode(),
                                     {"content-type": "application/json"})
    return urllib.request.urlopen(request, timeout=120)


def size_of(root):
    return sum(p.lstat().st_size for p in pathlib.Path(root).rglob("*") if not p.is_symlink())


def test_holds_nothing_but_the_daemon(root, _):
    files = [p for p in pathlib.Path(root).rglob("*") if p.is_file() and not p.is_symlink()]
    programs = [p.name for p in files if p.parent.name in ("bin", "sbin")]
    assert programs == ["holdfast"], programs
    assert not [p for p in files if p.stat().st_mode & 0o6022], "setuid, or writable by others"
    assert not list(pathlib.Path(root).rglob("*.crt")), "a builder's certificate"
    assert size_of(root) < SIZE_MAX, size_of(root)
    return f"{size_of(root) / 1e6:.1f} MB in {len(files)} files"


def test_refuses_to_serve_everyone_unasked(root, model):
    run = subprocess.run(**command(root, model, *instruction("ENTRYPOINT"), *instruction("CMD")),
                         timeout=60)
    assert run.returncode == 1 and "no tenant has keys" in run.stderr, run
    code, said = health(root, model)
    assert code == 1 and "does not answer" in said, said


def test_serves_and_leaves_as_told(root, model):
    process = subprocess.Popen(**command(root, model, *instruction("ENTRYPOINT"),
                                         *instruction("CMD"), "--allow-anonymous"))
    try:
        started = time.monotonic()
        wait_for(lambda: process.poll() is not None or health(root, model)[0] == 0)
        assert process.poll() is None, process.stderr.read()
        ready = time.monotonic() - started
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        daemon = int(children.split()[0])
        check_confinement(daemon)
        with ask() as answer:
            content = json.load(answer)["choices"][0]["message"]["content"]
        assert "Paris" in content, content
        with urllib.request.urlopen("http://127.0.0.1:8080/ui/", timeout=60) as page:
            assert b"assets/index-" in page.read(), "not the page"
        with concurrent.futures.ThreadPoolExecutor() as pool:
            stream = ask(stream=True, max_tokens=400)
            first = stream.readline()
            rest = pool.submit(stream.read)
            os.kill(daemon, signal.SIGTERM)
            told = time.monotonic()
            wait_for(lambda: health(root, model)[0] == 1)  # `leaving`, and still serving
            with ask(max_tokens=4) as answer:
                assert answer.status == 200
            assert process.wait(timeout=60) == 0, process.stderr.read()
            assert first.startswith(b"data:") and b"data: [DONE]" in rest.result()
            left = time.monotonic() - told
        return f"ready after {ready:.1f} s, gone {left:.1f} s after SIGTERM"
    finally:
        process.kill()


def check_confinement(process):
    status = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{process}/status").read_text().splitlines() if ":\t" in line)
    user = instruction("USER").split(":")[0]
    assert status["Uid"].split() == [user] * 4, status["Uid"]
    assert int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1", status
    assert status["NSpid"].split()[-1] == "1", status["NSpid"]
    mounts = [line.split() for line in
              pathlib.Path(f"/proc/{process}/mountinfo").read_text().splitlines()]
    root = [mount for mount in mounts if mount[4] == "/"]
    assert "ro" in root[-1][5].split(","), root


def main(root, model):
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            print(f"{name[5:].replace('_', ' ')}: {test(root, model) or 'ok'}", flush=True)
    print(f"image: {size_of(root) / 1e6:.1f} MB, {pathlib.Path(model).stat().st_size / 1e6:.1f} MB "
          "more with the default model")


if __name__ == "__main__":
    main(*sys.argv[1:])
