#!/bin/sh
# SQLAlchemy 2.1.9 with dagster-postgres 0.29.27 (dagster 1.13.27): storage in Postgres does not open, although its package is installed.
#
# Seen: for `postgresql://` SQLAlchemy 2.1 takes the driver psycopg (version 3), where 2.0 took psycopg2. dagster-postgres brings
# psycopg2-binary alone, does not limit SQLAlchemy, and makes `postgresql://` of `postgres_db`: "No module named 'psycopg'".
# MLflow's `postgresql://` backends are the same.
# What helps: `scheme: postgresql+psycopg2` below `postgres_db`, and postgresql+psycopg2:// as MLflow's address.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'dagster==1.13.27' 'dagster-postgres==0.29.27' 'sqlalchemy==2.1.9'
"$folder/venv/bin/python" - <<'PY'
import psycopg2  # there it is
from dagster_postgres.utils import pg_url_from_config
from sqlalchemy import create_engine

place = {"hostname": "localhost", "username": "dagster", "password": "x", "db_name": "dagster"}
url = pg_url_from_config({"postgres_db": place})
try:
    create_engine(url)
except ModuleNotFoundError as error:
    print(url.split(":")[0], "with psycopg2", psycopg2.__version__.split()[0], "gives:", error)
    assert error.name == "psycopg"
else:
    raise SystemExit("an engine was made")
named = pg_url_from_config({"postgres_db": {**place, "scheme": "postgresql+psycopg2"}})
print("with a scheme:", create_engine(named).driver)
assert create_engine(named).driver == "psycopg2"
print("as described")
PY
