#!/usr/bin/env bash
# Runs each built fuzz target for SECONDS over its committed corpus; with REPORT, writes JUnit XML.
# As many at once as there are processors (HOLDFAST_JOBS).
# A crashing input is kept under build/fuzz/crashes/. New finds go to build/fuzz/found/, not into the
# committed corpus.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
seconds=${1:-10}
report=${2:-}
mkdir -p build/fuzz/crashes
bad=0
total=0
cases=""
declare -A running  # by name: its process
for target in build/fuzz/tests/fuzz/fuzz_*; do
  [[ -x $target && ! -d $target ]] || continue
  name=$(basename "$target")
  mkdir -p "build/fuzz/found/$name"
  # Only for a place: how each has ended is asked for below.
  while (($(jobs -rp | wc -l) >= ${HOLDFAST_JOBS:-$(nproc)})); do wait -n || true; done
  "$target" "build/fuzz/found/$name" "tests/fuzz/corpus/${name#fuzz_}" -max_total_time="$seconds" \
    -timeout=10 -rss_limit_mb=4096 -artifact_prefix="build/fuzz/crashes/$name-" \
    >"build/fuzz/$name.log" 2>&1 &
  running[$name]=$!
done
for name in "${!running[@]}"; do
  total=$((total + 1))
  log="build/fuzz/$name.log"
  if wait "${running[$name]}"; then
    echo "$name: ok, $(grep -oE 'Done [0-9]+ runs' "$log" | tail -n 1)"
    cases+="<testcase name=\"$name\"/>"
  else
    bad=$((bad + 1))
    echo "$name: FAILED" && tail -n 40 "$log"
    cases+="<testcase name=\"$name\"><failure message=\"see $log\"/></testcase>"
  fi
done
[[ -z $report ]] ||
  echo "<testsuite name=\"fuzz\" tests=\"$total\" failures=\"$bad\">$cases</testsuite>" >"$report"
[[ $total -gt 0 ]] || { echo "no fuzz target was built" >&2; exit 1; }
[[ $bad == 0 ]]
