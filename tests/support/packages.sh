#!/bin/bash
# Installs the required Debian packages; returns quickly if all are installed.
# usage: packages.sh run     what building and `make run` need
#        packages.sh bench   what the benchmarks need as well
#        packages.sh         what the tests need as well
# No service is started by the installation. Other users than root need sudo.
set -euo pipefail

packages=(ca-certificates chromium chromium-driver chromium-headless-shell fonts-dejavu-core libnss3-tools)
command -v cc >/dev/null || packages+=(gcc libc6-dev)
if [ "${1:-}" = bench ]; then
  packages+=(prometheus-blackbox-exporter)
  [ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || packages+=(nginx-light)
elif [ "${1:-}" != run ]; then
  packages+=(curl procps prometheus prometheus-alertmanager prometheus-blackbox-exporter postgresql zabbix-server-pgsql zabbix-frontend-php zabbix-agent php-cli php-pgsql)
  packages+=(libssl-dev openssl pkg-config rsyslog rsyslog-elasticsearch)
  packages+=(firefox-esr openjdk-17-jre-headless python3-venv)
  # For soak tests: a mail client in the browser, and its mail server.
  [ -z "${WACHTA_SOAK:-}" ] || packages+=(roundcube-core roundcube-sqlite3 dovecot-imapd)
  # A newer Node from another source includes npm.
  command -v node >/dev/null || packages+=(nodejs)
  command -v npm >/dev/null || packages+=(npm)
fi

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "missing packages, and only root can install them: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi

echo "installing: ${missing[*]}" >&2
# Packages must not start services: each test starts what it needs, on its own ports.
[ -e /usr/sbin/policy-rc.d ] || {
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee /usr/sbin/policy-rc.d >/dev/null
  "${as_root[@]}" chmod +x /usr/sbin/policy-rc.d
}

# Tests may run in parallel: one installs, the others wait for the lock.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
"${apt[@]}" update >&2
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2
