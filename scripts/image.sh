#!/usr/bin/env bash
# The steps of deploy/Dockerfile that are more than a line, so that `./dev container-test` runs the
# same where there is no container engine.
#   debian FOLDER   a fresh Debian 12 with this checkout in /src (in Docker: its base image)
#   chroot FOLDER COMMAND...  there, as the Dockerfile's RUN does
#   runtime FOLDER  of the built daemon what is needed to run it and nothing else: an image's root
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=dev
source ./dev source-only

make_debian() {  # FOLDER
  local root=$1 mirror=http://deb.debian.org
  rm -rf --one-file-system "$root"
  mkdir -p "$root" "$HOLDFAST_HOME/container/packages"
  debootstrap --variant=minbase --include=ca-certificates \
    --cache-dir="$HOLDFAST_HOME/container/packages" bookworm "$root" "$mirror/debian" >&2
  cat >"$root/etc/apt/sources.list" <<TXT
deb $mirror/debian bookworm main
deb $mirror/debian bookworm-updates main
deb $mirror/debian-security bookworm-security main
TXT
  # Authorities that this machine trusts beside Debian's, such as a company's proxy. They stay in
  # the root that builds: `runtime` takes no certificates.
  if [[ -d /usr/local/share/ca-certificates ]]; then
    find /usr/local/share/ca-certificates -name '*.crt' \
      -exec cp -t "$root/usr/local/share/ca-certificates" {} +
  fi
  chroot "$root" update-ca-certificates >/dev/null
  mkdir "$root/src"
  git ls-files -z -co --exclude-standard | tar --null -T - -c | tar -x -C "$root/src"
}

# Mounts that end with this process: run under `unshare --mount`.
in_chroot() {  # FOLDER COMMAND...
  local root=$1
  shift
  mkdir -p "$root/cache" "$HOLDFAST_HOME/container/packages"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount --bind "$HOLDFAST_HOME" "$root/cache"
  mount --bind "$HOLDFAST_HOME/container/packages" "$root/var/cache/apt/archives"
  exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG="${LANG:-C.UTF-8}" \
    HOLDFAST_HOME=/cache CARGO_HOME=/cache/cargo HOLDFAST_JOBS="$JOBS" HOLDFAST_UI=1 \
    sh -c 'cd /src && exec "$@"' sh "$@"
}

make_runtime() {  # FOLDER
  local root=$1 binary=build/release/holdfast library package
  [[ -x $binary ]] || die "$binary is not built; run ./dev build release holdfast"
  rm -rf "$root"
  mkdir -p "$root"/{dev,etc/holdfast,proc,sys,tmp,usr/bin,usr/lib,usr/lib64,var/lib/holdfast/models}
  ln -s usr/lib "$root/lib"
  ln -s usr/lib64 "$root/lib64"
  strip -o "$root/usr/bin/holdfast" "$binary"
  # The loader and each library by the name under which it is asked for, with its licence.
  ldd "$binary" | grep -oE '/[^ ]+' | while read -r library; do
    install -D "$(readlink -f "$library")" "$root$library"
    package=$(dpkg-query -S "$(readlink -f "$library")" 2>/dev/null ||
      dpkg-query -S "$(readlink -f "$library" | sed 's,^/usr,,')")
    package=${package%%:*}
    install -D -m 644 -t "$root/usr/share/doc/$package" "/usr/share/doc/$package/copyright"
  done
  install -D -m 644 -t "$root/usr/share/doc/holdfast" NOTICE deploy/holdfast.example.yaml
  install -m 644 deploy/container/holdfast.yaml "$root/etc/holdfast/"
  echo 'holdfast:x:65532:65532::/var/lib/holdfast:/nonexistent' >"$root/etc/passwd"
  echo 'holdfast:x:65532:' >"$root/etc/group"
  echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
}

case ${1:-} in
  debian) make_debian "$2" ;;
  chroot) in_chroot "${@:2}" ;;
  runtime) make_runtime "$2" ;;
  *) die "scripts/image.sh knows debian, chroot and runtime; found '${1:-}'" ;;
esac
