#!/bin/sh
# Patroni calls this when PostgreSQL has started, and with its role as $2 when that has changed. PgBouncer tells its clients
# whether the database takes writes as it was at its first connection, and so must be told to connect again.
set -eu
case "$2" in
    primary | master | promoted) wanted=f ;;
    *) wanted=t ;;
esac
for _ in $(seq 60); do
    [ "$(psql --no-psqlrc --tuples-only --no-align --host /tmp --dbname postgres --command 'SELECT pg_is_in_recovery()')" = "$wanted" ] \
        && break
    sleep 0.5
done
export PGPASSWORD="$LNPAY_DB_PASSWORD" PGCONNECT_TIMEOUT=5
exec psql --no-psqlrc --host "${PGBOUNCER_ADDRESS:-127.0.0.1}" --port 6432 --username lnpay --dbname pgbouncer --command RECONNECT
