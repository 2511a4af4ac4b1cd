#!/bin/sh
# PgBouncer with the one user it lets in. A quote in the password is doubled, as its file wants it.
set -eu
password=$(printf %s "$LNPAY_DB_PASSWORD" | sed 's/"/""/g')
(umask 077 && printf '"lnpay" "%s"\n' "$password" > /etc/pgbouncer/userlist.txt)
exec pgbouncer /etc/pgbouncer.ini
