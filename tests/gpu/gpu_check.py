"""Runs what needs a GPU and writes down what came out: gpu_check.py PROGRAM FOLDER. The report is
FOLDER/gpu.json and FOLDER/gpu.md. Exits 0 if nothing failed; what was skipped is counted as skipped.

Needs nothing but Python, so that it runs on a machine that has a GPU and not our packages.
"""

import json
import pathlib
import subprocess
import sys
import xml.etree.ElementTree


def outcome(test):
    if test.find("failure") is not None:
        return "failed"
    return "passed" if test.find("skipped") is None else "skipped"


def reason(test):
    skipped = test.find("skipped")
    return "" if skipped is None else " ".join(skipped.get("message").split("\n")[1:]).strip()


def main(program, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / "gpu_tests.xml"
    raw.unlink(missing_ok=True)
    code = subprocess.run([program, f"--gtest_output=xml:{raw}"], check=False).returncode
    if not raw.exists():
        sys.exit(f"{program} ended with {code} and no report")
    tests = [(f"{test.get('classname')}.{test.get('name')}", outcome(test), reason(test))
             for test in xml.etree.ElementTree.parse(raw).iter("testcase")]
    counts = {which: sum(found == which for _, found, _ in tests)
              for which in ("passed", "failed", "skipped")}
    report = {"exit_status": code, **counts,
              "tests": [{"name": name, "outcome": found, "why": why}
                        for name, found, why in tests]}
    (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    summary = ", ".join(f"{count} {which}" for which, count in counts.items())
    (folder / "gpu.md").write_text(
        f"# GPU check: {summary}\n\n| test | outcome | why |\n|---|---|---|\n" +
        "".join(f"| {name} | {found} | {why} |\n" for name, found, why in tests))
    print(f"gpu check: {summary}; {folder}/gpu.md")
    sys.exit(1 if code or counts["failed"] else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
