#!/usr/bin/env bash
# A real PostgreSQL. Usage: postgres.sh BIN DIR PORT ; ready when PORT answers, after about 1 s the first time.
#   apt-get install --no-install-recommends postgresql
# DIR keeps its data: run again with the same one, it is the same server after a crash. User postgres, database postgres, no
# password. It refuses to run as root, so it then runs as an ordinary user, who gets DIR. It ends with its standard input, at
# once, as if the power were cut: nobody waits for clients that are still connected.
set -euo pipefail
BIN=$1 D=$(realpath -m "$2") PORT=$3
as=()
if [ "$(id -u)" -eq 0 ]; then
  name=nobody
  if id -u postgres >/dev/null 2>&1; then name=postgres; fi
  as=(setpriv "--reuid=$(id -u "$name")" "--regid=$(id -g "$name")" --clear-groups)
  chown "$(id -u "$name"):$(id -g "$name")" "$D"
fi
cd "$D"
if [ ! -e data/PG_VERSION ]; then
  "${as[@]}" "$BIN/initdb" -D "$D/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null
fi
# of a server that was killed; where nobody collects dead processes, its number seems to be alive
rm -f data/postmaster.pid
# the whole group is told to end: this shell is to outlive that, to end the server in its own way
trap '' TERM
exec 3<&0
"${as[@]}" "$BIN/postgres" -D "$D/data" -p "$PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
  -c fsync=off -c full_page_writes=off -c max_connections=100 -c max_prepared_transactions=10 </dev/null 3<&- &
server=$!
(cat <&3 >/dev/null; kill -QUIT "$server" 2>/dev/null) &
exec 3<&-
wait "$server"
