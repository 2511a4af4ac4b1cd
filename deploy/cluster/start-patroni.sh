#!/bin/sh
# Patroni with this machine's name and addresses. POSTGRES_ADDRESS: where the other machines reach it.
set -eu
: "${POSTGRES_ADDRESS:=$(hostname)}"
export PATRONI_NAME="${PATRONI_NAME:-$(hostname)}"
export PATRONI_POSTGRESQL_CONNECT_ADDRESS="$POSTGRES_ADDRESS:5432"
export PATRONI_RESTAPI_CONNECT_ADDRESS="$POSTGRES_ADDRESS:8008"
exec patroni /etc/patroni/patroni.yml
