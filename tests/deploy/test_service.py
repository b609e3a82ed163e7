"""The packaged service: its unit, its settings and those of the other deployments, its manual."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml
from conftest import DEPLOY, ROOT, run
from daemon import BINARY

SETTINGS = [DEPLOY / "container/holdfast.yaml", DEPLOY / "debian/holdfast.yaml",
            DEPLOY / "compose/holdfast.yaml", DEPLOY / "kubernetes/daemons/holdfast.yaml"]
EXPOSURE = 1.2  # of 10, as docs/deployment.md says


def test_the_unit_is_exposed_as_little_as_is_said():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    said = run("systemd-analyze", "security", "--offline=true", "--no-pager",
               DEPLOY / "systemd/holdfast.service")
    assert float(re.search(r"exposure level for holdfast.service: ([\d.]+)", said).group(1)) <= EXPOSURE, said


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.parent.name)
def test_settings_have_no_fault(path, tmp_path):
    text, count = re.subn(r"/var/lib/holdfast/models/\S+", os.environ["HOLDFAST_MODEL"],
                          path.read_text())
    assert count == 1
    (tmp_path / "holdfast.yaml").write_text(text)
    done = subprocess.run([BINARY, "check-config", tmp_path / "holdfast.yaml"], capture_output=True,
                          text=True)
    if path.parent.name == "container":  # it takes --allow-anonymous or keys, and says so
        faults = done.stderr.strip().splitlines()
        assert len(faults) == 2 and all("no tenant has keys" in fault for fault in faults), faults
    else:
        assert done.returncode == 0, done.stderr


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m|)", str(text)).groups()
    return int(number) * (60 if unit == "m" else 1)


def test_whoever_stops_a_daemon_waits_longer_than_it_takes_to_leave():
    def leaving(folder):
        server = yaml.safe_load((DEPLOY / folder / "holdfast.yaml").read_text())["server"]
        return seconds(server["drain_notice"]) + seconds(server.get("drain_timeout", "30s"))
    unit = (DEPLOY / "systemd/holdfast.service").read_text()
    pod = yaml.safe_load((DEPLOY / "kubernetes/daemons/deployment.yaml").read_text())
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for folder, patience in (
            ("debian", re.search(r"^TimeoutStopSec=(.*)", unit, re.MULTILINE).group(1)),
            ("kubernetes/daemons", pod["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]),
            ("compose", compose["services"]["a"]["stop_grace_period"])):
        assert seconds(patience) >= leaving(folder) + 10, folder


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    run("python3", ROOT / "scripts/manual.py", BINARY, folder)
    return folder


def words_of_help():
    """Every verb and flag that the help names."""
    text = run(BINARY, "help")
    verbs = re.findall(r"^  ([a-z][a-z-]+)", text, re.MULTILINE)
    return set(verbs), set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) - {"--flag"}


def test_manual_and_completions_lack_nothing_of_the_help(manual):
    verbs, flags = words_of_help()
    assert len(verbs) > 8 and len(flags) > 60
    page = (manual / "holdfast.1").read_text().replace("\\-", "-")
    for name, flag in (("holdfast.bash", "--{}"), ("_holdfast", "'--{}"),
                       ("holdfast.fish", "-l {}")):
        text = (manual / name).read_text()
        for word in verbs:
            assert re.search(rf"(?<![\w-]){word}(?![\w-])", text), (name, word)
        for word in flags:
            assert re.search(flag.format(word[2:]) + r"(?![\w-])", text), (name, word)
    for word in verbs | flags:
        assert word in page, word


def test_the_man_page_is_set_without_a_warning(manual):
    if shutil.which("groff") is None:
        pytest.skip("no groff")
    done = subprocess.run(["groff", "-man", "-ww", "-z", manual / "holdfast.1"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def bash_completes(manual, *words):
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _holdfast; '
              'echo "${COMPREPLY[*]}"')
    return run("bash", "-euc", script, "bash", manual / "holdfast.bash", "holdfast", *words).split()


def test_bash_completes_verbs_flags_and_values(manual):
    verbs, _ = words_of_help()
    assert set(bash_completes(manual, "")) == verbs
    assert bash_completes(manual, "serve", "--pol") == ["--policy"]
    assert bash_completes(manual, "serve", "--weights", "") == ["native", "f32"]
    assert "continuum" in bash_completes(manual, "serve", "--policy", "")
    assert set(bash_completes(manual, "bench", "")) == {"engine", "machine", "profile"}
    assert "--shared-context" in bash_completes(manual, "bench", "engine", "--")
    assert bash_completes(manual, "check-config", "/etc/host") or not pathlib.Path("/etc/hosts").exists()


@pytest.mark.parametrize("shell,name", [("zsh", "_holdfast"), ("fish", "holdfast.fish")])
def test_other_shells_can_read_theirs(manual, shell, name):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    run(shell, "-n", manual / name)
