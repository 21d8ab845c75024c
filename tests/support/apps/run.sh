#!/bin/bash
# Runs an application of other people on loopback, until it is ended.
# usage: run.sh NAME                            exits with 77, and says why, where it is not installed
#        run.sh NAME FOLDER PORT PORT PORT      serves at the first port; its other servers take the others. FOLDER is
#                                               empty and keeps its state
# All processes stay in the script's process group. Users and passwords are `pilot` and `lagoon`.
set -euo pipefail
umask 022

here=$(cd "$(dirname "$0")" && pwd)
tools=$("$here/../tools.sh" where)
apps=$tools/apps
name=$1

need() {
  local path
  for path in "$@"; do
    [ -e "$path" ] || { echo "$path is missing" >&2; exit 77; }
  done
}
swagger_ui=$apps/swagger-ui/node_modules/swagger-ui-dist
mailboxes=$tools/mail/bin/aiosmtpd
case $name in
  datasette) need "$apps/datasette/bin/datasette" ;;
  django-admin) need "$apps/django/bin/django-admin" ;;
  jupyterlab) need "$apps/jupyterlab/bin/jupyter-lab" ;;
  locust) need "$apps/locust/bin/locust" ;;
  roundcube)
    need /usr/share/roundcube/index.php /usr/sbin/dovecot "$mailboxes"
    # Dovecot serves mail as users of its own.
    [ "$(id -u)" = 0 ] || { echo "only root can run Dovecot as it is set up here" >&2; exit 77; }
    ;;
  swagger-ui) need "$swagger_ui" ;;
  *) echo "there is no $name" >&2; exit 2 ;;
esac
[ $# -gt 1 ] || exit 0

folder=$2 port=$3 second=$4 third=$5
cd "$folder"
export HOME=$folder PYTHONDONTWRITEBYTECODE=1

# Makes a database of a file of SQL.
database() {
  python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(open(sys.argv[2]).read())' "$1" "$2"
}

datasette() {
  database "$folder/harbours.db" "$here/harbours.sql"
  exec "$apps/datasette/bin/datasette" serve "$folder/harbours.db" --host 127.0.0.1 --port "$port"
}

django_admin() {
  export DJANGO_SETTINGS_MODULE=fleet.settings PYTHONPATH=$here FLEET_STATE=$folder
  local django=("$apps/django/bin/python" -m django)
  "${django[@]}" migrate --run-syncdb
  DJANGO_SUPERUSER_PASSWORD=lagoon "${django[@]}" createsuperuser --noinput --username pilot --email pilot@example.org
  exec "${django[@]}" runserver --noreload "127.0.0.1:$port"
}

jupyterlab() {
  mkdir -p config/labconfig data runtime ipython notebooks
  # News and new versions would be asked for outside of this machine.
  echo '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}' > config/labconfig/page_config.json
  export JUPYTER_CONFIG_DIR=$folder/config JUPYTER_DATA_DIR=$folder/data JUPYTER_RUNTIME_DIR=$folder/runtime
  export IPYTHONDIR=$folder/ipython
  exec "$apps/jupyterlab/bin/jupyter-lab" --no-browser --allow-root --ServerApp.ip=127.0.0.1 \
    --ServerApp.port="$port" --ServerApp.port_retries=0 --ServerApp.root_dir="$folder/notebooks" \
    --IdentityProvider.token=lagoon --FileContentsManager.delete_to_trash=False
}

locust() {
  python3 "$here/harbour.py" "$second" &
  exec "$apps/locust/bin/locust" --locustfile "$here/locustfile.py" --web-host 127.0.0.1 --web-port "$port" \
    --host "http://127.0.0.1:$second"
}

swagger_ui() {
  exec python3 "$here/harbour.py" "$port" "$swagger_ui"
}

# Roundcube by PHP's own server, Dovecot to read mail, aiosmtpd to send it: whoever a mail is for, it lies in the one
# mailbox at once. The mailbox belongs to `nobody`, since Dovecot serves none of root's; aiosmtpd stays root, as which
# it can read its own modules, and leaves mails that everybody may read.
roundcube() {
  install -d -o nobody -g nogroup mail mail/box mail/box/{cur,new,tmp}
  mkdir -p roundcube run
  cat > dovecot.conf <<CONF
protocols = imap
listen = 127.0.0.1
base_dir = $folder/run
state_dir = $folder/run
log_path = $folder/dovecot.log
ssl = no
disable_plaintext_auth = no
mail_location = maildir:$folder/mail/box
passdb {
  driver = static
  args = password=lagoon
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=$folder/mail
}
service imap-login {
  inet_listener imap {
    port = $second
  }
  inet_listener imaps {
    port = 0
  }
}
namespace inbox {
  inbox = yes
  mailbox Sent {
    special_use = \Sent
    auto = subscribe
  }
  mailbox Trash {
    special_use = \Trash
    auto = subscribe
  }
}
CONF
  /usr/sbin/dovecot -F -c dovecot.conf &
  (umask 0; exec "$mailboxes" --nosetuid --listen "127.0.0.1:$third" --class aiosmtpd.handlers.Mailbox "$folder/mail/box") &

  # Its own configuration instead of Debian's, over the same defaults.
  ln -s /etc/roundcube/defaults.inc.php /etc/roundcube/mimetypes.php roundcube/
  database roundcube.db /usr/share/dbconfig-common/data/roundcube/install/sqlite3
  cat > roundcube/config.inc.php <<CONF
<?php
\$config = [
  'db_dsnw' => 'sqlite:///$folder/roundcube.db?mode=0640', 'imap_host' => '127.0.0.1:$second',
  'smtp_host' => '127.0.0.1:$third', 'smtp_user' => '', 'smtp_pass' => '', 'mail_domain' => 'example.org',
  'product_name' => 'Harbour mail', 'des_key' => 'twenty-four-letters-long', 'language' => 'en_GB', 'plugins' => [],
  'log_dir' => '$folder', 'temp_dir' => '$folder',
];
CONF
  export ROUNDCUBE_CONFIG_DIR=$folder/roundcube PHP_CLI_SERVER_WORKERS=4
  exec php -d date.timezone=UTC -S "127.0.0.1:$port" -t /var/lib/roundcube/public_html
}

"${name//-/_}"
