"""Holds docs/architecture.md's table of rooms as data and checks the tree against it:

  direction   a room includes only the rooms that it may know
  foreign     third-party headers only where they belong
  ring        no cycle among rooms, nor among the headers of one room
  targets     every source and every test lies in a CMake file of its folder
  guard       every header has #pragma once

Run from anywhere; prints every violation and exits 1 if there is one. `--self-test` plants
violations in a scratch tree and fails if one goes unseen.
"""

import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Room: the rooms (or single headers) that it may include.
MAY_INCLUDE = {
    "config": [],
    "kernels": [],
    "kvstore": ["config"],
    "engine": ["config", "kernels", "kvstore/block_mover.h", "kvstore/kv_layout.h",
               "kvstore/layer_gate.h"],
    "scheduler": ["config", "kvstore", "engine/engine.h", "engine/step_plan.h"],
    "simulator": ["config", "kvstore", "scheduler", "engine/engine.h", "engine/step_plan.h",
                  "workload"],
    "text": [],
    "workload": ["config"],
    "proto": [],
    "server": ["config", "scheduler", "text", "proto"],
}

# Third-party header prefix: where it may be included (folders or files, by prefix).
FOREIGN = {
    "absl/": ["config", "kvstore", "engine", "scheduler", "simulator", "text", "workload",
              "server"],
    "yaml-cpp/": ["config/", "workload/scenario_reader"],
    "prometheus/": ["config/base/metrics.cc"],
    "nlohmann/": ["config/", "engine/hf_", "engine/json_document", "engine/safetensors_",
                  "simulator", "workload", "server"],
    "openssl/": ["engine/", "kvstore/block_identity", "workload/line_file",
                 "server"],
    "liburing.h": ["kvstore/disk_"],
    "hiredis/": ["kvstore/remote_"],
    "sqlite3.h": ["server/database"],
    "zmq.h": ["server/zmq_socket.h"],
    "xxh": ["kvstore", "workload/read_agent_texts", "workload/token_runs"],
    "zlib.h": ["workload/unpacked_file"],
    "lzma.h": ["workload/unpacked_file"],
    "immintrin.h": ["kernels"],
    "grpcpp/": ["server"],
    "google/protobuf": ["server"],
    "boost/": ["server", "workload/csv_row"],
    "spdlog/": ["server"],
    "cuda": ["kernels", "engine"],
    "gtest/": [],
    "gmock/": [],
    "benchmark/": [],
}

# The places that see every room: they choose the parts and wire them up.
SEES_ALL = ("server/main.cc", "server/daemon.", "server/engine_options.", "server/kv_event_", "server/kv_tiers.",
            "server/model_text.", "server/scheduler_settings.", "server/simulate.",
            "server/replay", "server/turns_file.", "server/workload_arguments.",
            "server/bench_", "server/engine_bound.", "server/engine_speed.",
            "server/machine_speed.", "server/serving_measurement.")

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
SOURCE_SUFFIXES = {".cc", ".h", ".inl", ".cu", ".cuh"}


def sources(root, folder):
    base = root / folder
    if base.is_dir():
        yield from sorted(p for p in base.rglob("*") if p.suffix in SOURCE_SUFFIXES)


def includes(path):
    for quoted, angled in INCLUDE.findall(path.read_text(encoding="utf-8")):
        yield quoted or angled


def allowed(name, allowances):
    return any(name == a or name.startswith(a if a.endswith("/") else a + "/") for a in allowances)


def check_directions(root):
    for room, may in MAY_INCLUDE.items():
        for path in sources(root, room):
            name = path.relative_to(root).as_posix()
            if name.startswith(SEES_ALL):
                continue
            for header in includes(path):
                other = header.split("/")[0]
                if other in MAY_INCLUDE and "/" in header and other != room:
                    if other == "holdfast" or not allowed(header, may):
                        yield f"{name}: includes {header}; {room} may include only {may or 'nothing'}"
                for prefix, places in FOREIGN.items():
                    if header.startswith(prefix) and not any(name.startswith(p) for p in places):
                        yield f"{name}: includes <{header}>, which belongs in {places or 'tests'}"


def find_ring(graph):
    """A cycle as a list of nodes, or None. Depth-first, three colours."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return path[path.index(node):] + [node]
        if node in done:
            return None
        path.append(node)
        for other in sorted(graph.get(node, ())):
            ring = visit(other)
            if ring:
                return ring
        path.pop()
        done.add(node)
        return None

    for start in sorted(graph):
        ring = visit(start)
        if ring:
            return ring
    return None


def check_rings(root):
    rooms, headers = {}, {}
    for room in MAY_INCLUDE:
        for path in sources(root, room):
            name = path.relative_to(root).as_posix()
            if name.startswith(SEES_ALL):
                continue
            for header in includes(path):
                if not (root / header).is_file():
                    continue
                other = header.split("/")[0]
                if other != room and header not in ("engine/engine.h", "engine/step_plan.h",
                                                    "kvstore/kv_layout.h", "kvstore/block_mover.h",
                                                    "kvstore/layer_gate.h"):
                    rooms.setdefault(room, set()).add(other)
                if path.suffix == ".h":
                    headers.setdefault(name, set()).add(header)
    for what, graph in (("rooms", rooms), ("headers", headers)):
        ring = find_ring(graph)
        if ring:
            yield f"{what} include each other in a ring: {' -> '.join(ring)}"


def check_targets(root):
    """Every .cc must be named in the CMakeLists.txt of its folder or of one above it."""
    for folder in list(MAY_INCLUDE) + ["tests"]:
        for path in sources(root, folder):
            if path.suffix not in (".cc", ".cu"):
                continue
            above, found = path.parent, False
            while True:
                cmake = above / "CMakeLists.txt"
                wanted = path.relative_to(above).as_posix()
                if cmake.is_file():
                    text = cmake.read_text(encoding="utf-8")
                    # fuzz_<name>.cc is declared as holdfast_fuzz(<name> ...)
                    found = re.search(rf"(?<![\w/]){re.escape(wanted)}(?!\w)", text) or (
                        path.stem.startswith("fuzz_")
                        and re.search(rf"holdfast_fuzz\(\s*{path.stem[5:]}\b", text))
                if found or above == root:
                    break
                above = above.parent
            if not found:
                yield f"{path.relative_to(root)}: in no CMake target: dead code or a dead test"


def check_guards(root):
    for folder in list(MAY_INCLUDE) + ["tests"]:
        for path in sources(root, folder):
            if path.suffix == ".h" and "#pragma once" not in path.read_text(encoding="utf-8") \
                    and "#ifndef" not in path.read_text(encoding="utf-8"):
                yield f"{path.relative_to(root)}: no #pragma once"


def violations(root):
    for check in (check_directions, check_rings, check_targets, check_guards):
        yield from check(root)


def self_test():
    planted = {
        "kvstore/a.h": '#pragma once\n#include "scheduler/x.h"\n',  # direction
        "scheduler/x.h": '#pragma once\n#include "kvstore/a.h"\n',  # ring of rooms and headers
        "kernels/k.h": '#pragma once\n#include "absl/status/status.h"\n',  # foreign
        "engine/unguarded.h": "int x;\n",  # guard
        "config/dead.cc": "int y;\n",  # target
    }
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        for name, text in planted.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text)
        found = "\n".join(violations(root))
    wanted = ["kvstore/a.h: includes scheduler/x.h", "rooms include each other", "headers include",
              "kernels/k.h: includes <absl", "engine/unguarded.h: no #pragma", "config/dead.cc: in no"]
    missed = [w for w in wanted if w not in found]
    for w in missed:
        print(f"self-test: planted violation not seen: {w}\n{found}")
    return bool(missed)


def main():
    if "--self-test" in sys.argv:
        return 1 if self_test() else 0
    found = sorted(violations(ROOT))
    print("\n".join(found) if found else "rooms: every include, target and guard is in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
