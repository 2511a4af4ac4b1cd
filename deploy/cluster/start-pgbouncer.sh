#!/bin/sh
# PgBouncer with the one user it lets in. A quote in the password is doubled, as its file wants it.
# POSTGRES_ADDRESS: where its PostgreSQL is, if not on the same machine.
set -eu
password=$(printf %s "$LNPAY_DB_PASSWORD" | sed 's/"/""/g')
(umask 077 && printf '"lnpay" "%s"\n' "$password" > /etc/pgbouncer/userlist.txt)
sed "s/host=127.0.0.1/host=${POSTGRES_ADDRESS:-127.0.0.1}/" /etc/pgbouncer.ini > /etc/pgbouncer/pgbouncer.ini
exec pgbouncer /etc/pgbouncer/pgbouncer.ini
