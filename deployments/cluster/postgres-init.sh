#!/bin/sh
# Makes users and databases, once, when Postgres first starts on an empty folder (docker-entrypoint-initdb.d).
# Passwords come from files; psql reads them as variables, so no quote in them can end a statement.
set -eu
secrets=${SECRETS_DIR:-/run/secrets}
psql -v ON_ERROR_STOP=1 --username postgres --dbname postgres \
    -v dagster="$(cat "$secrets/DAGSTER_POSTGRES_PASSWORD")" \
    -v mlflow="$(cat "$secrets/MLFLOW_POSTGRES_PASSWORD")" <<'SQL'
CREATE ROLE dagster LOGIN PASSWORD :'dagster';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE dagster OWNER dagster;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE CONNECT ON DATABASE dagster, mlflow, mlflow_auth FROM PUBLIC;
SQL
