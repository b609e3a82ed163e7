#!/bin/bash
# Run by package.sh as a unit of a freshly booted Debian, into which the package has been installed.
# Its output is the test's; the first command that fails ends it.
set -euo pipefail
config=/etc/holdfast/holdfast.yaml
model=/var/lib/holdfast/models/SmolLM2-135M-Instruct.Q4_1.gguf

passed() { echo "ok: $*"; }
wait_until() {  # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { echo "not in time: $*"; systemctl status holdfast; journalctl -u holdfast; exit 1; }
    sleep 0.1
  done
}
says() { journalctl -u holdfast --output=cat | grep -q "$1"; }
ask() {
  curl -sS --no-buffer 127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' -d "$1"
}

systemd-analyze verify --man=no /usr/lib/systemd/system/holdfast.service
passed "systemd finds no fault in the unit"
[[ $(systemctl is-active holdfast) != active ]]
passed "it does not start by itself"

systemctl start holdfast
wait_until 20 says "there is no model"
passed "without a model it says so"
systemctl stop holdfast

cp /model.gguf "$model"
holdfast check-config "$config"
systemctl start holdfast
wait_until 120 holdfast health --config "$config"
passed "ready, as $(holdfast health --config "$config")"
ask '{"messages":[{"role":"user","content":"What is the capital of France?"}],"temperature":0}' | grep Paris
passed "a chat is answered"
curl -sSf 127.0.0.1:8080/ui/ | grep assets/index-
passed "the page is there"

process=$(systemctl show -P MainPID holdfast)
grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' "/proc/$process/status"
[[ $(stat -c %U "/proc/$process") == holdfast ]]
grep -q '^CapEff:.0*$' "/proc/$process/status"
grep -q '^Seccomp:.2$' "/proc/$process/status"
awk '$5 == "/" {options = $6} END {exit options !~ /^ro,/}' "/proc/$process/mountinfo"
[[ $(stat -c %U /var/lib/holdfast/state.sqlite) == holdfast ]]
passed "the user holdfast, no capability, calls filtered, the system read-only, its state its own"

systemctl reload holdfast
wait_until 20 says 'reloaded'
passed "systemctl reload reads the file again"

ask '{"messages":[{"role":"user","content":"Tell me a long story."}],"stream":true,"max_tokens":200}' >/tmp/stream &
stream=$!
wait_until 20 test -s /tmp/stream
began=$SECONDS
systemctl stop holdfast
wait "$stream"
grep -q '^data: \[DONE\]' /tmp/stream
[[ $(systemctl show -P Result holdfast) == success ]]
passed "systemctl stop lets a stream end, after $((SECONDS - began)) s"

systemctl start holdfast
wait_until 120 holdfast health --config "$config"
DEBIAN_FRONTEND=noninteractive dpkg --remove holdfast >/dev/null
[[ $(systemctl is-active holdfast) != active ]]
[[ -f $config && -f /var/lib/holdfast/state.sqlite && ! -e /usr/bin/holdfast ]]
dpkg --purge holdfast >/dev/null
[[ ! -e $config && -f $model ]]
passed "removing stops it and keeps the settings, purging keeps models and state"
