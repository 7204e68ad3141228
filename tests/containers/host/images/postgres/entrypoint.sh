#!/bin/sh
# entrypoint.sh postgres [OPTIONS]: the cluster is made when missing, with POSTGRES_USER's password and POSTGRES_DB
set -eu
[ "$1" = postgres ] || exec "$@"
shift
serve() { exec postgres -D "$PGDATA" -c unix_socket_directories=/tmp,/var/run/postgresql "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  echo "$POSTGRES_PASSWORD" > /tmp/password
  initdb --pgdata="$PGDATA" --username="$POSTGRES_USER" --pwfile=/tmp/password --encoding=UTF8 --locale=C.UTF-8 \
    --auth-local=trust --auth-host=scram-sha-256
  rm /tmp/password
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -j -D "$PGDATA" postgres
fi
serve -c listen_addresses='*' "$@"
