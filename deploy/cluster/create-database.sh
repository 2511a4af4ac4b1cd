#!/bin/sh
# Patroni calls this once, on the first primary, with its address: LNPay's role and its database.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --set password="$LNPAY_DB_PASSWORD" "$1" <<'SQL'
CREATE ROLE lnpay LOGIN PASSWORD :'password';
CREATE DATABASE lnpay OWNER lnpay;
SQL
