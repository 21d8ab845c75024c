#!/bin/bash
# Installs the third-party applications whose pages are used in tests; returns quickly if all are installed.
# usage: apps.sh          installs into the folder of tools.sh, below apps/
# Needs 460 MB, of which JupyterLab takes 240, and 100 s of one core.
#
# An application that cannot be installed is reported and left out: the test skips its pages. Roundcube and its servers
# are Debian packages, see packages.sh.
set -euo pipefail
umask 022

DATASETTE=0.65.5 JUPYTERLAB=4.6.6 LOCUST=2.47.0 DJANGO=5.2.19 SWAGGER_UI=5.35.0

here=$(cd "$(dirname "$0")" && pwd)
tools=$("$here/tools.sh" where)
apps=$tools/apps
mkdir -p "$apps"
# Tests may run in parallel: one installs, the others wait for the lock.
exec 9>"$apps/lock"
flock 9

stamp() { echo "$apps/.$1-$2"; }
missing() { echo "$1 could not be installed: its pages will be passed over" >&2; }

# Creates a separate Python environment; constraints.txt pins the versions of all dependencies.
python() {
  local name=$1 version=$2
  local with=$version-$(cksum < "$here/apps/constraints.txt" | cut -d ' ' -f 1)
  [ -e "$(stamp "$name" "$with")" ] && return
  rm -rf "${apps:?}/$name"
  if python3 -m venv "$apps/$name" >&2 &&
    "$apps/$name/bin/pip" install --quiet --disable-pip-version-check --constraint "$here/apps/constraints.txt" \
      "$name==$version" >&2; then
    touch "$(stamp "$name" "$with")"
  else
    rm -rf "${apps:?}/$name"
    missing "$name $version"
  fi
}

swagger_ui() {
  [ -e "$(stamp swagger-ui "$SWAGGER_UI")" ] && return
  if npm install --prefix "$apps/swagger-ui" --no-audit --no-fund --ignore-scripts --silent \
    "swagger-ui-dist@$SWAGGER_UI" >&2; then
    touch "$(stamp swagger-ui "$SWAGGER_UI")"
  else
    missing "swagger-ui-dist $SWAGGER_UI"
  fi
}

# Two at a time: one unpacks while the other waits for the network.
(python jupyterlab "$JUPYTERLAB"; swagger_ui) 9>&- &
(python locust "$LOCUST"; python django "$DJANGO"; python datasette "$DATASETTE") 9>&-
wait
