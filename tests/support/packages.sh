#!/bin/bash
# Installs the Debian packages that the tests use; does nothing, quickly, when all are there.
# usage: packages.sh        (as root; nothing that is installed here is started as a service)
set -euo pipefail

packages=(
  ca-certificates curl procps
  chromium chromium-driver fonts-dejavu-core
  prometheus
  postgresql zabbix-server-pgsql zabbix-frontend-php zabbix-agent php-cli php-pgsql
)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "missing packages, and only root can install them: ${missing[*]}" >&2
  exit 1
fi

# Packages must not start services of their own: a test starts what it needs, on ports of its own.
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
fi

export DEBIAN_FRONTEND=noninteractive
# Tests may run side by side: one installs, the others wait for the lock.
apt=(apt-get -qq -o DPkg::Lock::Timeout=600)
"${apt[@]}" update >&2
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2
