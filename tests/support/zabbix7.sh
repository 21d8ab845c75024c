#!/bin/bash
# A Zabbix 7.0 server for tests: runs zabbix.sh in a separate Debian trixie.
# usage: zabbix7.sh up|down      (as root)
#
# The trixie (1.1 GB) is created once by debootstrap and kept in ${WACHTA_TRIXIE:-the folder of tools.sh/trixie}. Exit code
# 77 means that it is not possible on this machine; the reason is printed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${WACHTA_TRIXIE:-$("$here/tools.sh" where)/trixie}
without() { echo "Zabbix 7.0 cannot be had here: $*" >&2; exit 77; }

case ${1:-} in
  up|down) ;;
  *) echo "usage: $0 up|down" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || without "only root can make and enter a chroot"
unshare --mount true 2>/dev/null || without "this machine allows no mounts (unshare --mount)"

# Prints the package mirror of this machine. Debian has its sources in one of the two files: a missing one is no error.
mirror() {
  { cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } |
    sed -nE 's/^URIs: +//p; s/^deb +(\[[^]]*\] +)?([^ ]+) .*main.*/\2/p' | sed -n 1p
}

# Runs a command in the trixie. Its mounts are visible only to the command and its children, and end with them.
inside() {
  unshare --mount --propagation private bash -c '
    root=$1; shift
    mount -t proc proc "$root/proc" && mkdir -p "$root/dev/shm" && mount --bind /dev/shm "$root/dev/shm" &&
      exec chroot "$root" env -u LD_PRELOAD PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"' inside "$root" "$@"
}

if [ "$1" = up ]; then
  mkdir -p "$(dirname "$root")"
  # Tests may run in parallel: one installs, the others wait for the lock.
  exec 8>"$root.lock"
  flock 8
  if [ ! -e "$root/.wachta-complete" ]; then
    from=$(mirror)
    [ -n "$from" ] || without "no Debian mirror is configured"
    if ! command -v debootstrap >/dev/null; then
      DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends debootstrap >&2 ||
        without "debootstrap cannot be installed"
    fi
    # An incomplete installation is created again.
    rm -rf --one-file-system "$root"
    echo "making a Debian trixie in $root" >&2
    debootstrap --variant=minbase --include=ca-certificates trixie "$root" "$from" > "$root.log" 2>&1 ||
      without "debootstrap failed; the end of its log: $(tail -n 3 "$root.log")"
    echo "deb $from trixie main" > "$root/etc/apt/sources.list"
    # No service is started by the installation.
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
    # apt uses the same network configuration as on this machine.
    apt-config dump Acquire > "$root/etc/apt/apt.conf.d/99wachta" 2>/dev/null || true
    inside env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get -qq update && apt-get -qq install -y --no-install-recommends \
      curl openssl procps util-linux postgresql zabbix-server-pgsql zabbix-frontend-php php-cli php-pgsql' >> "$root.log" 2>&1 ||
      without "its packages cannot be installed; the end of the log: $(tail -n 3 "$root.log")"
    touch "$root/.wachta-complete"
  fi
  flock -u 8
  exec 8>&-
fi
[ -e "$root/.wachta-complete" ] || exit 0

# Each checkout has its own state there. All packages are installed, so packages.sh is replaced by an empty script.
place=/srv/wachta-$(echo "$here" | cksum | cut -d' ' -f1)
mkdir -p "$root$place/tests"
cp "$here/zabbix.sh" "$root$place/tests/zabbix.sh"
printf '#!/bin/sh\nexit 0\n' > "$root$place/tests/packages.sh"
chmod +x "$root$place/tests/packages.sh"
# Paths are printed as seen from outside.
inside env WACHTA_TEST_STATE="$place/state" bash "$place/tests/zabbix.sh" "$1" | sed "s#=/srv/#=$root/srv/#"
