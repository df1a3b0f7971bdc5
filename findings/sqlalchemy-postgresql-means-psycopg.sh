#!/bin/sh
# sqlalchemy 2.1.9 with dagster-postgres 0.29.27: `postgresql://` names psycopg 3, no longer psycopg2.
#
# Seen: dagster-postgres requires psycopg2-binary alone, makes its URL with the scheme `postgresql` unless told, and allows SQLAlchemy 2.1.
# Where pip takes that, every Dagster process ends at its start with "No module named 'psycopg'"; MLflow's server does so for a tracking URI
# that begins with `postgresql://`. With SQLAlchemy 2.0 the same URL works.
# What helps: `scheme: postgresql+psycopg2` in dagster.yaml (storage, postgres, postgres_db), and `postgresql+psycopg2://` for MLflow.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'dagster-postgres==0.29.27' 'dagster==1.13.27' 'sqlalchemy==2.1.9' \
    'psycopg2-binary==2.9.13' 'setuptools==80.9.0'
cd "$folder"
DAGSTER_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" -W ignore - <<'PY' 2>"$folder/log" || { tail -20 "$folder/log"; exit 1; }
from dagster_postgres.utils import get_conn_string
from sqlalchemy import create_engine

place = {"username": "dagster", "password": "it", "hostname": "127.0.0.1", "db_name": "dagster"}
usual = get_conn_string(**place)
try:
    create_engine(usual)
    fault = None
except ModuleNotFoundError as error:
    fault = error
print("the usual URL:", usual.partition(":")[0], "->", fault)
named = create_engine(get_conn_string(**place, scheme="postgresql+psycopg2"))
print("with the driver's name:", named.dialect.driver)
assert fault is not None and fault.name == "psycopg" and named.dialect.driver == "psycopg2"
print("as described")
PY
