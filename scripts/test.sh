#!/usr/bin/env bash
# ./dev test: every test that a machine without a GPU can run. Stages go on after a failure; the last
# line counts all of them.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=dev
source ./dev source-only

FUZZ_SECONDS="${HOLDFAST_FUZZ_SECONDS:-10}"

install_packages "${PACKAGES_BUILD[@]}" "${PACKAGES_TEST[@]}"
setup_model
export HOLDFAST_MODEL="$MODEL_PATH"
reports="$PWD/build/reports"
rm -rf "$reports"
mkdir -p "$reports"
failed=()

stage() {  # NAME COMMAND...
  local name=$1 start=$SECONDS
  shift
  say "$name"
  # A subshell, so that a failing step ends this stage and no other; not inside the `if`, where bash
  # would ignore -e.
  set +e
  (set -euo pipefail; "$@")
  local status=$?
  set -e
  if ((status == 0)); then
    say "$name: ok ($((SECONDS - start)) s)"
  else
    failed+=("$name")
    say "$name: FAILED ($((SECONDS - start)) s)"
  fi
}

# ctest with its counts kept in a report; an empty selection is a failure.
run_ctest() {  # PRESET [CTEST ARGS]
  local preset=$1
  shift
  ctest --test-dir "build/$preset" -j "$JOBS" --output-on-failure --no-tests=error \
    --output-junit "$reports/$preset.xml" "$@" >"$reports/$preset.log" 2>&1 ||
    { grep -vE '^ *[0-9]+/[0-9]+ Test +#[0-9]+: .* Passed|^ +Start +[0-9]+:' "$reports/$preset.log"; return 1; }
  tail -n 4 "$reports/$preset.log"
}

release_tests() { build release && run_ctest release; }

# Tests labelled `model` run the real model for long, `outcome` long simulations; they have no place
# under a sanitizer.
sanitizer_tests() {
  build dev all_tests
  # Not detect_stack_use_after_return: g++ 12 aligns its fake frames to 32 bytes, and 64-byte vectors
  # on the stack then fault.
  UBSAN_OPTIONS=print_stacktrace=1 run_ctest dev -LE 'model|outcome|arch'
}

thread_tests() {
  build tsan unit_mailbox unit_kvstore unit_scheduler sim_scheduler
  TSAN_OPTIONS=halt_on_error=1 run_ctest tsan -L threads
}

fuzz_tests() {
  build fuzz fuzz_targets
  bash scripts/fuzz.sh "$FUZZ_SECONDS" "$reports/fuzz.xml"
}

conformance_tests() {
  local python
  setup_prometheus
  python=$(python_environment conformance tests/conformance/requirements.txt)
  "$python" -m pytest tests/conformance -q -p no:cacheprovider \
    --junitxml "$reports/conformance.xml"
}

deploy_tests() {
  local python
  python=$(deploy_environment)
  "$python" -m pytest tests/deploy -q -p no:cacheprovider --junitxml "$reports/deploy.xml"
}

# Compiled and linked everywhere; what needs a GPU says skipped.
cuda_tests() {
  (setup_cuda) || { say "no CUDA compiler could be had: the GPU library is not compiled"; return 0; }
  build cuda gpu_kernels
  run_ctest cuda -L gpu
}

stage "release tests" release_tests
stage "address and undefined sanitizers" sanitizer_tests
stage "thread sanitizer" thread_tests
stage "fuzz targets, $FUZZ_SECONDS s each" fuzz_tests
stage "GPU library" cuda_tests
stage "conformance" conformance_tests
stage "deployment" deploy_tests

"$PYTHON" scripts/count_tests.py "$reports" || failed+=("count")
if ((${#failed[@]})); then
  printf 'FAILED: %s\n' "${failed[@]}" >&2
  exit 1
fi
