#!/usr/bin/env bash
# A real WebDAV server: Debian's Apache with mod_dav. Usage: webdav.sh DIR PORT USER PASSWORD ; ready when PORT answers.
#   apt-get install --no-install-recommends apache2
# Serves DIR/files at /dav/ to USER, with basic authorization. Runs as whoever starts it, and ends with its standard input.
set -euo pipefail
D=$(realpath -m "$1") PORT=$2 NAME=$3 PASSWORD=$4
PATH=$PATH:/usr/sbin:/sbin
MODULES=/usr/lib/apache2/modules
rm -rf "$D"
mkdir -p "$D/files" "$D/locks"
printf '%s:{SHA}%s\n' "$NAME" "$(printf %s "$PASSWORD" | openssl dgst -sha1 -binary | base64)" > "$D/users"
{
  for module in mpm_event authn_core authn_file authz_core authz_user auth_basic dav dav_fs dir alias; do
    echo "LoadModule ${module}_module $MODULES/mod_$module.so"
  done
  # Apache itself refuses to serve as root
  if [ "$(id -u)" -eq 0 ]; then
    chown -R www-data:www-data "$D"
    chmod 755 "$D"
    echo "User www-data"
    echo "Group www-data"
  fi
  cat <<C
ServerName 127.0.0.1
Listen 127.0.0.1:$PORT
PidFile $D/apache.pid
ErrorLog $D/error.log
DocumentRoot $D/files
DavLockDB $D/locks/db
Alias /dav $D/files
KeepAlive On
MaxKeepAliveRequests 0
<Directory $D/files>
  Dav On
  DirectoryIndex disabled
  AuthType Basic
  AuthName test
  AuthUserFile $D/users
  Require valid-user
</Directory>
C
} > "$D/apache.conf"
apache2 -f "$D/apache.conf" -D FOREGROUND < /dev/null &
# the reader of our standard input is gone: so are the tests
cat > /dev/null
kill "$!"
wait
