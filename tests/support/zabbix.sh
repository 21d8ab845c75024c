#!/bin/bash
# A Zabbix 6.0 server with its API and its own PostgreSQL, on loopback, for tests.
# usage: zabbix.sh up|down      (as root: PostgreSQL and Zabbix run as their own users)
#
# `up` installs what is missing, sets up the database once, starts the processes that are not running, and prints
#   ZABBIX_TRAPPER=127.0.0.1:PORT
#   ZABBIX_API=http://127.0.0.1:PORT/api_jsonrpc.php        user Admin, password zabbix
#   ZABBIX_TLS=FOLDER        ca.pem, agent.pem, agent.key: the server's CA, and a certificate that it signed for an agent
# Both commands may be repeated. Ports come from ZABBIX_TRAPPER_PORT, ZABBIX_API_PORT and ZABBIX_DB_PORT, or are free ones.
# State is kept under ${WACHTA_TEST_STATE:-target/test-state}/zabbix, or under /var/tmp if the service users cannot reach
# that folder.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

[ "${1:-}" != up ] || "$here/packages.sh"

# The service users must reach the state folder, which is impossible if the checkout is in a home folder.
state=${WACHTA_TEST_STATE:-$here/../../target/test-state}/zabbix
mkdir -p "$state"
state=$(cd "$state" && pwd)
chmod 755 "$state"
reachable() { ! id zabbix >/dev/null 2>&1 || runuser -u zabbix -- test -x "$state"; }
if ! reachable; then
  state=/var/tmp/wachta-test-state-$(echo "$here" | cksum | cut -d' ' -f1)/zabbix
  mkdir -p "$state"
fi

# Whether a part that was started here is running. Its process id may have been reused by a process of another folder.
running() { [ -s "$state/$1.pid" ] && grep -qsF "$state" "/proc/$(cat "$state/$1.pid")/cmdline"; }

# Ends a part by its process id; with a minus as the third argument, its whole process group.
stop() {
  local part=$1 signal=$2 group=${3:-} pid
  if running "$part"; then
    pid=$(cat "$state/$part.pid")
    kill "-$signal" -- "$group$pid"
    for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
    # A test server has no data worth waiting for.
    kill -KILL -- "$group$pid" 2>/dev/null || true
  fi
  rm -f "$state/$part.pid"
}

until_ready() {
  local what=$1; shift
  for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; done
  echo "$what did not become ready; the end of its log:" >&2
  tail -n 20 "$state/$what.log" >&2
  return 1
}

down() {
  stop frontend TERM -
  stop server TERM
  stop database INT # PostgreSQL's fast shutdown
  rm -f "$state/ports"
}

case ${1:-} in
  down) down; exit 0 ;;
  up) ;;
  *) echo "usage: $0 up|down" >&2; exit 2 ;;
esac

# If several tests start at once, one sets up and the others wait.
exec 9>"$state/lock"
flock 9
# An incomplete start is ended.
trap '[ $? = 0 ] || down' EXIT

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}
# Running processes keep their ports.
if [ -s "$state/ports" ] && running database && running server && running frontend; then
  . "$state/ports"
else
  down
  trapper_port=${ZABBIX_TRAPPER_PORT:-$(free_port)}
  api_port=${ZABBIX_API_PORT:-$(free_port)}
  db_port=${ZABBIX_DB_PORT:-$(free_port)}
  printf 'trapper_port=%s\napi_port=%s\ndb_port=%s\n' "$trapper_port" "$api_port" "$db_port" > "$state/ports"
fi

# The database: a separate cluster, without protection against power failures, which a test does not need.
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
data=$state/database
if [ ! -e "$data/complete" ]; then
  rm -rf "$data"
  install -d -o postgres -g postgres -m 700 "$data"
  runuser -u postgres -- "$bin/initdb" -D "$data" -A trust -E UTF8 --locale=C.UTF-8 --no-sync > "$state/initdb.log"
fi
if ! running database; then
  rm -f "$data/postmaster.pid"
  setsid runuser -u postgres -- "$bin/postgres" -D "$data" -p "$db_port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
    > "$state/database.log" 2>&1 9>&- < /dev/null &
  until_ready database "$bin/pg_isready" -h 127.0.0.1 -p "$db_port"
  head -1 "$data/postmaster.pid" > "$state/database.pid"
fi
sql() { psql -qX -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$db_port" "$@"; }
if [ ! -e "$data/complete" ]; then
  sql -U postgres -d postgres -c "create role zabbix login" -c "create database zabbix owner zabbix"
  for part in schema images data; do
    zcat "/usr/share/zabbix-server-pgsql/$part.sql.gz" | PGOPTIONS='-c client_min_messages=error' sql -U zabbix -d zabbix -1 >> "$state/schema.log"
  done
  # Without statistics the first pages of hosts take too long.
  sql -U postgres -d zabbix -c analyze
  install -o postgres -g postgres /dev/null "$data/complete"
fi

# A separate CA, which signs a certificate for the server and one for an agent. Keys are RSA, since Debian's server
# (GnuTLS) has no suites for others.
tls=$state/tls
if [ ! -e "$tls/complete" ]; then
  rm -rf "$tls"
  mkdir "$tls"
  new=(openssl req -newkey rsa:2048 -nodes)
  {
    "${new[@]}" -x509 -days 3650 -subj "/O=Wachta tests/CN=Signing CA" -keyout "$tls/ca.key" -out "$tls/ca.pem"
    echo basicConstraints=CA:FALSE > "$tls/extensions"
    for who in server agent; do
      "${new[@]}" -subj "/O=Wachta tests/CN=$who" -keyout "$tls/$who.key" -out "$tls/$who.csr"
      openssl x509 -req -in "$tls/$who.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 3650 \
        -extfile "$tls/extensions" -out "$tls/$who.pem"
    done
  } 2> "$state/tls.log"
  # These keys need no protection.
  chmod 644 "$tls"/*
  touch "$tls/complete"
fi

# The server. It loads new items within a second instead of a minute.
run=$state/run
install -d -o zabbix -g zabbix "$run"
cat > "$state/server.conf" <<CONF
ListenIP=127.0.0.1
ListenPort=$trapper_port
LogType=console
PidFile=$run/server.pid
SocketDir=$run
DBHost=127.0.0.1
DBPort=$db_port
DBName=zabbix
DBUser=zabbix
CacheUpdateFrequency=1
StartPollers=1
StartPingers=0
StartDiscoverers=0
StartTrappers=3
StartDBSyncers=1
TLSCAFile=$tls/ca.pem
TLSCertFile=$tls/server.pem
TLSKeyFile=$tls/server.key
CONF
if ! running server; then
  rm -f "$run/server.pid"
  setsid runuser -u zabbix -- /usr/sbin/zabbix_server -f -c "$state/server.conf" > "$state/server.log" 2>&1 9>&- < /dev/null &
  listening() { [ -s "$run/server.pid" ] && (exec 3<>"/dev/tcp/127.0.0.1/$trapper_port"); }
  until_ready server listening
  cp "$run/server.pid" "$state/server.pid"
fi

# The API. Debian's frontend contains the path of its configuration, so a copy is changed to use another one.
web=$state/frontend
# A copy that was created elsewhere and moved here is created again.
if [ ! -e "$web/complete" ] || ! grep -qsF "'$state/frontend.conf.php'" "$web/include/classes/core/CConfigFile.php"; then
  rm -rf "$web"
  cp -a /usr/share/zabbix "$web"
  sed -i "s#'/etc/zabbix/zabbix.conf.php'#'$state/frontend.conf.php'#" "$web/include/classes/core/CConfigFile.php"
  touch "$web/complete"
fi
cat > "$state/frontend.conf.php" <<CONF
<?php
\$DB = ['TYPE' => 'POSTGRESQL', 'SERVER' => '127.0.0.1', 'PORT' => '$db_port', 'DATABASE' => 'zabbix',
  'USER' => 'zabbix', 'PASSWORD' => '', 'SCHEMA' => '', 'ENCRYPTION' => false, 'KEY_FILE' => '', 'CERT_FILE' => '',
  'CA_FILE' => '', 'VERIFY_HOST' => false, 'CIPHER_LIST' => '', 'VAULT_URL' => '', 'VAULT_DB_PATH' => '',
  'VAULT_TOKEN' => '', 'DOUBLE_IEEE754' => true];
\$ZBX_SERVER = '127.0.0.1'; \$ZBX_SERVER_PORT = '$trapper_port'; \$ZBX_SERVER_NAME = 'test';
\$IMAGE_FORMAT_DEFAULT = IMAGE_FORMAT_PNG;
CONF
api=http://127.0.0.1:$api_port/api_jsonrpc.php
if ! running frontend; then
  # PHP's workers outlive their parent, so it leads its own process group, which `down` ends as a whole.
  PHP_CLI_SERVER_WORKERS=4 setsid php -d post_max_size=16M -d max_execution_time=300 -d max_input_time=300 \
    -d memory_limit=256M -d date.timezone=UTC -S "127.0.0.1:$api_port" -t "$web" \
    > "$state/frontend.log" 2>&1 9>&- < /dev/null &
  echo $! > "$state/frontend.pid"
  answers() {
    curl -fsS -H 'Content-Type: application/json' "$api" \
      -d '{"jsonrpc":"2.0","method":"apiinfo.version","params":{},"id":1}' | grep -q '"result"'
  }
  until_ready frontend answers
fi

echo "ZABBIX_TRAPPER=127.0.0.1:$trapper_port"
echo "ZABBIX_API=$api"
echo "ZABBIX_TLS=$tls"
