#!/usr/bin/env bash
# ./dev lint: formats, static checks, include direction. Changes nothing.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=dev
source ./dev source-only
bad=0
check() {  # NAME COMMAND...
  local name=$1 start=$SECONDS
  shift
  # Not inside the `if`, where bash would ignore -e.
  set +e
  (set -euo pipefail; "$@")
  local status=$?
  set -e
  if ((status == 0)); then say "lint $name: ok ($((SECONDS - start)) s)"; else say "lint $name: FAILED"; bad=1; fi
}

sources() { git ls-files -co --exclude-standard -- "$@"; }

format() { sources '*.cc' '*.h' '*.inl' | xargs clang-format-14 --dry-run -Werror; }
rust_format() { "$HOLDFAST_CARGO" fmt --manifest-path text/Cargo.toml --check; }
# Matters of style are warnings only: another release of clippy has others, and must not fail a
# commit that passed.
clippy() {
  CARGO_TARGET_DIR=build/cargo "$HOLDFAST_CARGO" clippy --manifest-path text/Cargo.toml --locked \
    --all-targets --quiet -- -D clippy::correctness -D clippy::suspicious -D clippy::perf -D unused
}
shell() { shellcheck -x -e SC2317 dev .ci/run scripts/*.sh tests/deploy/*.sh; }
python() { sources '*.py' | xargs "$PYTHON" -c 'import ast, sys
for path in sys.argv[1:]:
    ast.parse(open(path, encoding="utf-8").read(), path)'; }
includes() { "$PYTHON" tests/arch/check_includes.py; }
tidy() {
  # Needs the generated headers of proto/ and text/; the release build has them.
  build release
  sources '*.cc' | grep -E '^(config|kernels|kvstore|engine|scheduler|text|workload|simulator|server)/' |
    xargs -P "$JOBS" -n 4 clang-tidy-14 -p build/release --quiet 2>/dev/null
}

check format format
check rustfmt rust_format
check clippy clippy
check shell shell
check python python
check includes includes
check clang-tidy tidy
exit $bad
