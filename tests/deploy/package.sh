#!/usr/bin/env bash
# Installs the Debian package into a fresh Debian, boots that with its own systemd and runs
# package_inside.sh there. Called by `./dev package-test`.
#   package.sh PACKAGE ROOT MODEL
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
package=$1 root=$2 model=$3

unshare --mount scripts/image.sh debian "$root"
cp "$package" "$root/package.deb"
unshare --mount scripts/image.sh chroot "$root" sh -euc '
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  apt-get install -y -q --no-install-recommends systemd systemd-sysv dbus curl
  apt-get install -y -q --no-install-recommends /package.deb' >&2
cp "$model" "$root/model.gguf"
cp tests/deploy/package_inside.sh "$root/"
cat >"$root/etc/systemd/system/package-test.service" <<'TXT'
[Unit]
After=multi-user.target
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart=/bin/bash /package_inside.sh
StandardOutput=file:/package-test.log
StandardError=inherit
TXT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -sf ../package-test.service "$root/etc/systemd/system/default.target.wants/"
status=0
unshare --mount systemd-nspawn --register=no --keep-unit --private-network --quiet --console=pipe \
  --directory="$root" --boot >"$root/boot.log" 2>&1 </dev/null || status=$?
cat "$root/package-test.log"
((status == 0)) || tail -n 20 "$root/boot.log"
exit $status
