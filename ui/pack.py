"""Builds the page by npm and Vite and writes a C++ source that has its files (server/ui_files.h).

With --node: what package-lock.json names is installed once a lock file, into the user's cache, and
ui/node_modules points there. Without: the source has no files, and the daemon says so at /ui.
"""

import argparse
import errno
import gzip
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

UI = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("HOLDFAST_HOME") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "holdfast")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
SOURCE = """// Made by ui/pack.py.
#include "server/ui_files.h"

namespace holdfast {{

using namespace std::string_view_literals;

std::span<const UiFile> BuiltInUi() {{
{body}}}

}}  // namespace holdfast
"""


def install(node):
    """Has ui/node_modules, of what the lock file names."""
    lock = (UI / "package-lock.json").read_bytes()
    folder = CACHE / "node" / ("page-" + hashlib.sha256(lock).hexdigest()[:16])
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        npm = node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
        with tempfile.TemporaryDirectory(prefix="install-", dir=folder.parent) as scratch:
            tree = pathlib.Path(scratch) / "tree"
            tree.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(UI / name, tree)
            # Also whom this machine trusts beside Node.js, such as a company's proxy.
            done = subprocess.run([node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund",
                                   "--fetch-retries=1"], cwd=tree, stdout=sys.stderr,
                                  env={**os.environ, "NODE_USE_SYSTEM_CA": "1"})
            if done.returncode != 0:
                sys.exit("npm could not install what ui/package-lock.json names; see the lines above")
            try:
                tree.rename(folder)
            except OSError as fault:
                if fault.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another build was faster
                    raise
    link_to(folder / "node_modules", lock)


def link_to(modules, lock):
    link = UI / "node_modules"
    if link.is_dir() and not link.is_symlink():  # a developer's own installation stays
        return check(link, lock)
    if link.is_symlink() and link.readlink() == modules:
        return None
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(modules)
    except OSError as fault:
        sys.exit(f"{link} cannot be made a link to {modules}: {fault.strerror}; make the checkout writable, or "
                 "build without the page: HOLDFAST_UI=0")
    return None


def check(link, lock):
    """Holds npm's list of what it installed to the lock file; what is optional may be missing."""
    wanted = json.loads(lock)["packages"]
    try:
        found = json.loads((link / ".package-lock.json").read_bytes())["packages"]
    except (OSError, ValueError):
        found = {}
    wrong = [path for path, package in wanted.items() if path and
             (path in found or not package.get("optional")) and
             found.get(path, {}).get("integrity") != package["integrity"]]
    if wrong:
        sys.exit(f"{link} is not what ui/package-lock.json names ({', '.join(wrong[:3])}); remove the folder, or run "
                 "npm ci in ui/")


def build(node, folder):
    modules = UI / "node_modules"
    for program in ([modules / "typescript/bin/tsc", "--noEmit"],
                    [modules / "vite/bin/vite.js", "build", "--logLevel", "warn", "--outDir", folder]):
        subprocess.run([node, *program], cwd=UI, check=True)


def literal(data):
    """A C++ string literal of these bytes, in lines of a bearable length."""
    text = "".join(f"\\{byte:03o}" for byte in data)
    return "\n".join(f'        "{text[at:at + 400]}"' for at in range(0, len(text), 400)) + "sv"


def pack(folder):
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        packed = gzip.compress(data, compresslevel=9, mtime=0)
        entries.append('      {"%s", "%s", "%s",\n%s,\n%s},\n' % (
            path.relative_to(folder).as_posix(), TYPES[path.suffix],
            hashlib.sha256(data).hexdigest()[:16], literal(data), literal(packed)))
    return "  static constexpr UiFile kFiles[] = {\n" + "".join(entries) + "  };\n  return kFiles;\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=pathlib.Path, help="the source to write")
    parser.add_argument("--node", type=pathlib.Path, help="node, with npm beside it; none: no page")
    parser.add_argument("--install", action="store_true", help="only that, so that it is seen early")
    arguments = parser.parse_args()
    if arguments.install:
        return install(arguments.node)
    body = "  return {};\n"
    if arguments.node:
        install(arguments.node)
        with tempfile.TemporaryDirectory() as scratch:
            build(arguments.node, pathlib.Path(scratch))
            body = pack(pathlib.Path(scratch))
    arguments.into.write_text(SOURCE.format(body=body))


if __name__ == "__main__":
    main()
